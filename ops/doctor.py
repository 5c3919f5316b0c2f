"""prepaid doctor: checks that everything Prepaid needs is there and fits together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypedDict

import asyncpg
import typer
from redis.exceptions import RedisError

from migrations import runner
from ops.environment import settings
from ops.output import EXIT_REFUSED, emit
from shared.config import Settings
from shared.db.pool import UNAVAILABLE, connect
from shared.errors import PrepaidError
from shared.logging import mask
from shared.money import plain
from shared.organizations.service import check_rate
from shared.payments.client import check_key, stripe_client
from shared.payments.permissions import PERMISSIONS, lacking
from shared.queue.connection import connect as connect_redis
from shared.recharge import alerts

POSTGRES_MAJOR_MIN = 15
REDIS_MAJOR_MIN = 7


class Check(TypedDict):
    """One finding; `detail` says what was found, or the mend."""

    name: str
    ok: bool
    detail: str


class DoctorError(PrepaidError):
    """A check found something wrong."""


def examine(*, as_json: bool) -> None:
    """Run every check and print what was found; exit code 1 where one failed."""
    checks = asyncio.run(_examine())
    emit({"ok": all(c["ok"] for c in checks), "checks": checks}, as_json=as_json, human=_human)
    if not all(check["ok"] for check in checks):
        raise typer.Exit(EXIT_REFUSED)


async def _examine() -> list[Check]:
    try:
        found = settings()
    except PrepaidError as error:
        return [Check(name="settings", ok=False, detail=error.detail)]
    mode = "live" if found.livemode else "test"
    return [
        Check(name="settings", ok=True, detail=f"{mode} mode"),
        await _check("postgres", _postgres, found),
        await _check("schema", _schema, found),
        await _check("redis", _redis, found),
        await _check("currencies", _currencies, found),
        await _check("stripe", _stripe, found),
        await _check("permissions", _permissions, found),
        await _check("recharges", _recharges, found),
    ]


async def _check(name: str, probe: Callable[[Settings], Awaitable[str]], found: Settings) -> Check:
    try:
        return Check(name=name, ok=True, detail=await probe(found))
    except (*UNAVAILABLE, asyncpg.PostgresError, PrepaidError, RedisError) as error:
        detail = mask(str(error)) or type(error).__name__
        return Check(name=name, ok=False, detail=detail)


async def _postgres(found: Settings) -> str:
    connection = await connect(found.database_url, application_name="prepaid-doctor")
    try:
        version = await connection.fetchval("SHOW server_version")
        fsync = await connection.fetchval("SHOW fsync")
    finally:
        await connection.close()
    if int(version.split(".")[0]) < POSTGRES_MAJOR_MIN:
        raise DoctorError(f"PostgreSQL {version} is too old; take 15 or later")
    if fsync != "on":
        raise DoctorError("fsync is off: a power cut would lose events that Stripe got a 200 for")
    return f"PostgreSQL {version}"


async def _schema(found: Settings) -> str:
    status = await runner.status(found.database_url)
    if not status["upToDate"]:
        raise DoctorError(
            f"at {status['current']}, this release has {status['head']}: prepaid migrate"
        )
    return f"at {status['current']}, up to date"


async def _redis(found: Settings) -> str:
    client = connect_redis(found.redis_url)
    try:
        info: dict[str, Any] = await client.info("server")
    finally:
        await client.aclose(close_connection_pool=True)
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = str(info.get("valkey_version") or info["redis_version"])
    if int(version.split(".", maxsplit=1)[0]) < REDIS_MAJOR_MIN:
        raise DoctorError(f"{name} {version} is too old; take Redis 7 or Valkey 8, or later")
    return f"{name} {version}"


async def _stripe(found: Settings) -> str:
    await check_key(found.stripe_api_key, found.stripe_api_base)
    return f"{found.stripe_api_base} takes the key"


async def _currencies(found: Settings) -> str:
    connection = await connect(found.database_url, application_name="prepaid-doctor")
    try:
        await check_rate(connection, found.credits_per_unit)
    finally:
        await connection.close()
    return f"{plain(found.credits_per_unit)} credits a unit is exact in every currency in use"


async def _permissions(found: Settings) -> str:
    if not found.stripe_api_key.startswith("rk_"):
        return "a secret key has all"
    async with stripe_client(found.stripe_api_key, found.stripe_api_base) as client:
        missing = await lacking(client)
    if missing:
        raise DoctorError(
            f"the restricted key lacks {', '.join(map(str, missing))}. Give it these permissions in"
            " Stripe's Dashboard, under API keys."
        )
    return f"the restricted key has all {len(PERMISSIONS)}"


async def _recharges(found: Settings) -> str:
    connection = await connect(found.database_url, application_name="prepaid-doctor")
    try:
        standing = await alerts.standing(connection)
    finally:
        await connection.close()
    if standing:
        raise DoctorError("; ".join(map(_alert, standing)))
    return "no attempt waits because Stripe refuses this installation"


def _alert(alert: alerts.StripeAlert) -> str:
    since = f"{alert.began_at:%Y-%m-%d %H:%M} UTC"
    return (
        f"{alert.attempts} attempt(s) wait since {since}: Stripe answers {alert.cause}"
        f" ({alert.detail}). {alert.remedy}"
    )


def _human(document: dict[str, Any]) -> str:
    return "\n".join(
        f"{'ok  ' if check['ok'] else 'FAIL'}  {check['name']:12}{check['detail']}"
        for check in document["checks"]
    )
