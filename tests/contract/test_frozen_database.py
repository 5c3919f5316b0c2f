"""A PostgreSQL that is frozen, and not gone: every request ends by its own deadline."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from api.endpoints import OPERATIONS
from api.pay import page
from sandbox.process_table import parent_of
from shared.config import load
from shared.db.pool import create_pool
from shared.http.deadlines import Deadlines
from tests.fixtures.api import serve_api
from tests.fixtures.ledger import grant, post
from tests.fixtures.product import POOL_SIZE, WAIT_SECONDS_MAX, environment, until

if TYPE_CHECKING:
    import aiohttp

    from shared.db.pool import Pool
    from shared.organizations.model import Organization

SECONDS_MAX = 2
REQUESTS = (
    ("POST", "/api/credit-transactions", {"organizationId": "acme", "amount": -1}),
    ("POST", "/v1/billing/acme/transactions/batch", {"transactions": [{"amount": -1}]}),
    ("POST", "/v1/billing/acme/holds", {"amount": 1}),
    ("POST", "/v1/billing/acme/grants", {"amount": 1}),
    ("PATCH", "/v1/organizations/acme/billing", {"overdraftLimitDecimillicents": 10}),
    ("GET", "/v1/billing/acme/credits", None),
    ("GET", "/v1/billing/acme/credits/history", None),
    ("GET", "/v1/organizations/other/billing", None),
    ("GET", "/api/credit-transactions/list/", None),
    ("GET", "/api/v1/org/acme/credits/transactions?transaction_type=web_search", None),
    ("GET", "/pay/link", None),
)


@asynccontextmanager
async def frozen(pool: Pool) -> AsyncIterator[None]:
    """Stop PostgreSQL and every session of this database, and let them go on afterwards."""
    rows = await pool.fetch("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
    sessions = [row["pid"] for row in rows]
    server = parent_of(sessions[0])
    assert server is not None
    try:
        for pid in (server, *sessions):
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in (server, *sessions):
            os.kill(pid, signal.SIGCONT)


async def test_every_request_is_answered_while_postgresql_is_frozen_and_served_afterwards(
    database_url: str,
    redis_url: str,
    pool: Pool,
    client: aiohttp.ClientSession,
    organization: Organization,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """R14. With and without an Idempotency-Key, on connections that are open and on new ones."""
    monkeypatch.setattr(page, "PAGE_SECONDS_MAX", SECONDS_MAX)
    await post(pool, grant(organization, 100))
    operations = [replace(operation, seconds_max=SECONDS_MAX) for operation in OPERATIONS]
    deadlines = Deadlines(tick_seconds=0.1, clean_up_seconds_max=0.2)
    settings = load(environment(database_url, redis_url))
    with capture_logs():  # a trace for each 504 takes a second to print
        async with (
            create_pool(database_url, size=POOL_SIZE, application_name="prepaid-tests") as own,
            serve_api(settings, own, client, operations, deadlines=deadlines) as bare,
        ):
            api = await bare.make_key()

            async def ask(keyed: bool) -> list[int]:
                headers = {"Idempotency-Key": f"key-{keyed}"} if keyed else {}
                asked = [r for r in REQUESTS if not keyed or r[0] != "GET"]
                answers = await asyncio.gather(
                    *(api.call(method, path, body, headers=headers) for method, path, body in asked)
                )
                assert all("Retry-After" in a.headers for a in answers if a.status == 503)
                return [answer.status for answer in answers]

            async def is_served() -> bool:
                return not {500, 503, 504} & set(await ask(keyed=False))

            await until(is_served)
            async with asyncio.timeout(WAIT_SECONDS_MAX), frozen(own):
                found = await asyncio.gather(ask(keyed=False), ask(keyed=True))
            assert {status for statuses in found for status in statuses} <= {503, 504}
            await until(is_served)
