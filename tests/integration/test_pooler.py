"""Web, worker and commands through a real PgBouncer that pools by transaction."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
import pytest

from bench.setting import open_purchases
from cli.checks.model import DoctorError
from cli.checks.postgres import check_pooler
from sandbox.product import WebProcess, WorkerProcess
from sandbox.signed_events import purchase_paid, signature
from shared.config import load
from shared.db.pool import LIMITS, create_pool
from tests.fixtures.commands import Command, assert_refused
from tests.fixtures.pooler import SERVER_CONNECTIONS, Pooler, end_sessions, limit_role
from tests.fixtures.product import (
    SECRET_NEW,
    SLUG,
    balance,
    environment,
    event_states,
    until,
)
from tests.fixtures.servers import database_at, process_url

if TYPE_CHECKING:
    from shared.db.pool import Pool

NAMES = [f"pooled{number}" for number in range(40)]
DEBITS = 100
AT_ONCE = 20


def pooled(pooler: Pooler) -> dict[str, str]:
    return {"DATABASE_URL": pooler.url, "PREPAID_DIRECT_DATABASE_URL": pooler.direct_url}


def role_of(url: str) -> str:
    return str(urlsplit(url).username)


async def test_web_and_worker_work_through_a_pooler(
    pooler: Pooler, pool: Pool, redis_url: str, prepaid: Command, tmp_path: Path
) -> None:
    env = environment(pooler.direct_url, redis_url) | pooled(pooler)
    made = await prepaid("orgs", "create", "--slug", SLUG, "--name", SLUG, "--json", **env)
    organization = made.json["id"]
    key = await prepaid(
        *("keys", "create", "--name", "app", "--scope", "usage", "--all", "--json"), **env
    )
    web = WebProcess(env, tmp_path / "web.log")
    worker = WorkerProcess(env, tmp_path / "worker.log")
    await asyncio.gather(web.start(), worker.start())
    try:
        headers = {"Authorization": f"Bearer {key.json['key']}"}
        connector = aiohttp.TCPConnector(limit=AT_ONCE)
        async with aiohttp.ClientSession(web.url, connector=connector) as client:
            await open_purchases(pooler.direct_url, organization, NAMES)
            await asyncio.gather(*(pay(client, name) for name in NAMES))

            async def is_applied() -> bool:
                return set((await event_states(pool)).values()) == {"applied"}

            await until(is_applied)
            await asyncio.gather(*(debit(client, organization, headers) for _ in range(DEBITS)))
        assert await balance(pool) == 10 * len(NAMES) - DEBITS
        assert await names_of_sessions(pool) >= {"prepaid-listen"}
        assert await sessions(pool, ("prepaid-web", "prepaid-worker")) <= SERVER_CONNECTIONS
        assert "loop_failed" not in worker.log_tail()
    finally:
        assert await web.stop() == 0
        assert await worker.stop() == 0
    verified = await prepaid("ledger", "verify", "--json", **env)
    assert verified.json["ok"] is True


async def pay(client: aiohttp.ClientSession, name: str) -> None:
    body = purchase_paid(name, organization=SLUG)
    headers = {"Stripe-Signature": signature(body, SECRET_NEW)}
    async with client.post("/v1/webhooks/stripe", data=body, headers=headers) as response:
        assert response.status == 200, await response.text()


async def debit(client: aiohttp.ClientSession, organization: str, headers: dict[str, str]) -> None:
    body = {"amount": -1, "organizationId": organization}
    async with client.post("/api/credit-transactions", json=body, headers=headers) as response:
        assert response.status in {200, 201}, await response.text()


async def names_of_sessions(pool: Pool) -> set[str]:
    rows = await pool.fetch(
        "SELECT application_name FROM pg_stat_activity WHERE datname = current_database()"
    )
    return {row["application_name"] for row in rows}


async def sessions(pool: Pool, names: tuple[str, ...]) -> int:
    found: int = await pool.fetchval(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = ANY($1)",
        names,
    )
    return found


async def test_the_role_limits_sessions_that_a_pooler_opens(
    pooler: Pooler, superuser_url: str
) -> None:
    await limit_role(superuser_url, role_of(pooler.direct_url), LIMITS)
    async with create_pool(
        pooler.url, size=1, application_name="prepaid-tests", pooled=True
    ) as pool:
        for name, value in LIMITS.items():
            assert await pool.fetchval(f"SHOW {name}") == value


async def test_doctor_wants_the_limits_on_the_role_and_is_then_content(
    pooler: Pooler, superuser_url: str, redis_url: str
) -> None:
    settings = load(environment(pooler.direct_url, redis_url) | pooled(pooler))
    with pytest.raises(DoctorError, match="hold its locks") as refused:
        await check_pooler(settings)
    assert "SET lock_timeout = '10s'" in str(refused.value.fix)
    await limit_role(superuser_url, role_of(pooler.direct_url), LIMITS)
    # The session that PgBouncer has open still is without them.
    await end_sessions(superuser_url, "prepaid-doctor")
    assert "pooled by transaction" in str(await check_pooler(settings))


async def test_doctor_refuses_two_addresses_of_different_databases(
    database_url: str, superuser_url: str, redis_url: str
) -> None:
    """Each works alone, and requests would be in one database, the worker's checks in the other."""
    addresses = {
        "DATABASE_URL": process_url(database_url),
        "PREPAID_DIRECT_DATABASE_URL": database_at(superuser_url, "postgres"),
    }
    settings = load(environment(database_url, redis_url) | addresses)
    with pytest.raises(DoctorError, match="name different databases") as refused:
        await check_pooler(settings)
    assert "PREPAID_DIRECT_DATABASE_URL" in str(refused.value.fix)


async def test_a_pooler_without_the_direct_address_is_a_problem_that_doctor_names(
    pooler: Pooler, prepaid: Command
) -> None:
    found = await prepaid("keys", "list", DATABASE_URL=pooler.url)
    assert_refused(found, "PREPAID_DIRECT_DATABASE_URL")
