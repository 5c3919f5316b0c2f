"""prepaid doctor: checks settings, servers, schema, Stripe permissions and workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypedDict

import asyncpg
import typer
from redis.exceptions import RedisError

from cli.environment import load_settings
from cli.output import EXIT_REFUSED, abandon_at_end, emit
from migrations import runner
from shared.config import Settings
from shared.db.pool import UNAVAILABLE, close, connect
from shared.errors import PrepaidError
from shared.heartbeats import store as heartbeats
from shared.logging import mask
from shared.money import plain
from shared.organizations.service import check_rate
from shared.payments.client import check_key, stripe_client
from shared.payments.permissions import PERMISSIONS, lacking
from shared.queue.connection import connect as connect_redis
from shared.recharge import alerts

Probe = Callable[[Settings], Coroutine[Any, Any, str]]

CHECK_SECONDS_MAX = 5.0
PERMISSIONS_SECONDS_MAX = 30.0  # some twenty sequential requests
DETAIL_LENGTH_MAX = 500
POSTGRES_MAJOR_MIN = 15
REDIS_MAJOR_MIN = 7


class Check(TypedDict):
    """The result of a check; `detail` is the finding, or the fix."""

    name: str
    ok: bool
    detail: str


class DoctorError(PrepaidError):
    """A check failed."""


def examine(*, as_json: bool) -> None:
    """Run every check and print each result; exit code 1 if one failed."""
    checks: list[Check] = []

    def report(check: Check) -> None:
        checks.append(check)
        if not as_json:
            print(_line(check), flush=True)

    abandon_at_end(_examine(report))
    if as_json:
        document = {"ok": all(c["ok"] for c in checks), "checks": checks}
        emit(document, as_json=True, human=str)
    if not all(check["ok"] for check in checks):
        raise typer.Exit(EXIT_REFUSED)


async def _examine(report: Callable[[Check], None]) -> None:
    try:
        settings = load_settings()
    except PrepaidError as error:
        report(Check(name="settings", ok=False, detail=error.detail))
        return
    mode = "live" if settings.livemode else "test"
    report(Check(name="settings", ok=True, detail=f"{mode} mode"))
    unavailable: set[str] = set()
    for name, server, probe in _CHECKS:
        if server in unavailable:
            report(Check(name=name, ok=False, detail=f"not checked: {server} does not answer"))
            continue
        check, answered = await _check(name, server, probe, settings)
        report(check)
        if not answered:
            unavailable.add(server)


async def _check(name: str, server: str, probe: Probe, settings: Settings) -> tuple[Check, bool]:
    """Return the result, and whether the server answered.

    A check that takes too long is abandoned and not cancelled: a frozen server would delay the
    cancellation too.
    """
    running = asyncio.ensure_future(probe(settings))
    seconds_max = PERMISSIONS_SECONDS_MAX if name == "permissions" else CHECK_SECONDS_MAX
    await asyncio.wait({running}, timeout=seconds_max)
    if not running.done():
        running.add_done_callback(_drop)
        detail = f"{server} does not answer within {seconds_max:g} s: {_FIXES[server]}"
        return Check(name=name, ok=False, detail=detail), False
    try:
        return Check(name=name, ok=True, detail=running.result()), True
    except TimeoutError:
        detail = f"{server} does not answer in time: {_FIXES[server]}"
        return Check(name=name, ok=False, detail=detail), False
    except (*UNAVAILABLE, asyncpg.PostgresError, PrepaidError, RedisError) as error:
        detail = mask(str(error)[:DETAIL_LENGTH_MAX]) or type(error).__name__
        return Check(name=name, ok=False, detail=detail), not isinstance(error, OSError)


def _drop(left_behind: asyncio.Task[str]) -> None:
    """Take the outcome of a check that was left behind, so that asyncio logs none of it."""
    if not left_behind.cancelled():
        left_behind.exception()


async def _postgres(settings: Settings) -> str:
    connection = await connect(settings.database_url, application_name="prepaid-doctor")
    try:
        version = await connection.fetchval("SHOW server_version")
        fsync = await connection.fetchval("SHOW fsync")
    finally:
        await close(connection)
    if int(version.split(".")[0]) < POSTGRES_MAJOR_MIN:
        raise DoctorError(f"PostgreSQL {version} is too old; use 15 or later")
    if fsync != "on":
        raise DoctorError(
            "fsync is off: a power failure would lose events that Stripe got a 200 for. Turn it on"
        )
    return f"PostgreSQL {version}"


async def _schema(settings: Settings) -> str:
    status = await runner.status(settings.database_url)
    if not status["upToDate"]:
        raise DoctorError(
            f"at {status['current']}, this release has {status['head']}: run prepaid migrate"
        )
    return f"at {status['current']}, up to date"


async def _redis(settings: Settings) -> str:
    client = connect_redis(settings.redis_url)
    try:
        info: dict[str, Any] = await client.info("server")
    finally:
        await client.aclose(close_connection_pool=True)
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = str(info.get("valkey_version") or info["redis_version"])
    if int(version.split(".", maxsplit=1)[0]) < REDIS_MAJOR_MIN:
        raise DoctorError(f"{name} {version} is too old; use Redis 7 or Valkey 8, or later")
    return f"{name} {version}"


async def _stripe(settings: Settings) -> str:
    await check_key(settings.stripe_api_key, settings.stripe_api_base)
    return f"{settings.stripe_api_base} accepts the key"


async def _currencies(settings: Settings) -> str:
    connection = await connect(settings.database_url, application_name="prepaid-doctor")
    try:
        await check_rate(connection, settings.credits_per_unit)
    finally:
        await close(connection)
    return f"{plain(settings.credits_per_unit)} credits a unit are exact in every currency in use"


async def _permissions(settings: Settings) -> str:
    if not settings.stripe_api_key.startswith("rk_"):
        return "a secret key has all permissions"
    async with stripe_client(settings.stripe_api_key, settings.stripe_api_base) as client:
        missing = await lacking(client)
    if missing:
        raise DoctorError(
            f"the restricted key lacks {', '.join(map(str, missing))}. Give it these permissions in"
            " Stripe's Dashboard, under API keys."
        )
    return f"the restricted key has all {len(PERMISSIONS)} permissions"


async def _recharges(settings: Settings) -> str:
    connection = await connect(settings.database_url, application_name="prepaid-doctor")
    try:
        standing = await alerts.current(connection)
    finally:
        await close(connection)
    if standing:
        raise DoctorError("; ".join(map(_alert, standing)))
    return "no attempt waits for a fix of this installation's Stripe key or settings"


def _alert(alert: alerts.StripeAlert) -> str:
    since = f"{alert.began_at:%Y-%m-%d %H:%M} UTC"
    return (
        f"{alert.attempts} attempt(s) wait since {since}: Stripe answers {alert.cause}"
        f" ({alert.detail}). {alert.remedy}"
    )


async def _workers(settings: Settings) -> str:
    connection = await connect(settings.database_url, application_name="prepaid-doctor")
    try:
        health = await heartbeats.health(connection)
    finally:
        await close(connection)
    if health.problem is not None:
        raise DoctorError(health.problem)
    return f"{health.workers} running; {len(health.loops)} loops sent a heartbeat within 20 s"


def _line(check: Check) -> str:
    return f"{'ok  ' if check['ok'] else 'FAIL'}  {check['name']:12}{check['detail']}"


# In this order, each with its server.
_CHECKS: tuple[tuple[str, str, Probe], ...] = (
    ("postgres", "PostgreSQL", _postgres),
    ("schema", "PostgreSQL", _schema),
    ("redis", "Redis", _redis),
    ("currencies", "PostgreSQL", _currencies),
    ("stripe", "Stripe", _stripe),
    ("permissions", "Stripe", _permissions),
    ("recharges", "PostgreSQL", _recharges),
    ("workers", "PostgreSQL", _workers),
)
_FIXES = {
    "PostgreSQL": "check that it runs and is not overloaded, and that DATABASE_URL is right",
    "Redis": "check that it runs, and that REDIS_URL is right",
    "Stripe": "check status.stripe.com, and that this machine reaches STRIPE_API_BASE",
}
