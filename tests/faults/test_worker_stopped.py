"""A worker that is told to stop while it has two batches: their events are applied, and once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest
import pytest_asyncio

from sandbox.product import STOP_SECONDS_MAX, WorkerProcess
from tests.fixtures.freezing import Gate, gate
from tests.fixtures.paid_purchases import applied, credited_once, open_purchases, receive_paid
from tests.fixtures.product import closed_port, environment, until
from tests.fixtures.servers import process_url
from worker.drainer import BATCH_ROWS_MAX, LEASE_SECONDS

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

AT_ONCE = 2 * BATCH_ROWS_MAX
EVENTS = AT_ONCE + 50
LEASED = "SELECT count(*) FROM stripe_events WHERE lease_token IS NOT NULL"
LEASED_FOR = "SELECT max(available_at) - now() FROM stripe_events WHERE lease_token IS NOT NULL"
LEASES_END = "UPDATE stripe_events SET available_at = now() WHERE lease_token IS NOT NULL"
# What a worker sends last in the transaction of a batch, before its commit.
OUTCOMES = b"error_trace = s.error_trace"


@pytest_asyncio.fixture
async def postgres(database_url: str) -> AsyncIterator[Gate]:
    """Give a gate in front of the database, which a worker goes through."""
    async with gate(process_url(database_url)) as opened:
        yield opened
        opened.release()


@pytest_asyncio.fixture
async def stopping(
    pool: Pool,
    organization: Organization,
    postgres: Gate,
    redis_url: str,
    client: aiohttp.ClientSession,
    tmp_path: Path,
) -> AsyncIterator[WorkerProcess]:
    """Give a worker that got SIGTERM with a batch not yet committed, and another one leased."""
    names = [f"stop{number}" for number in range(EVENTS)]
    await open_purchases(pool, organization.id, names)
    await receive_paid(pool, organization.id, names)
    port = closed_port()
    variables = environment(postgres.url, redis_url) | {
        "DATABASE_URL": postgres.url,
        "PREPAID_WORKER_PORT": str(port),
    }
    worker = WorkerProcess(variables, tmp_path / "worker.log")
    postgres.hold_at = OUTCOMES
    await worker.start()

    async def has_two() -> bool:
        leased: int = await pool.fetchval(LEASED)
        return postgres.held == 1 and leased == AT_ONCE

    async def knows() -> bool:
        async with client.get(f"http://127.0.0.1:{port}/readyz") as answer:
            checks: dict[str, str] = (await answer.json())["checks"]
            return checks["process"] == "StoppingError"

    try:
        await until(has_two)
        os.kill(worker.pid, signal.SIGTERM)
        await until(knows)
        yield worker
    finally:
        worker.kill()
        await worker.wait()


async def the_next_worker_applies_the_rest(
    pool: Pool, database_url: str, redis_url: str, folder: Path
) -> None:
    following = WorkerProcess(environment(database_url, redis_url), folder / "next.log")
    await following.start()

    async def all_applied() -> bool:
        return len(await applied(pool)) == EVENTS

    try:
        await until(all_applied)
    finally:
        assert await following.stop() == 0
    await credited_once(pool, EVENTS)


async def test_a_worker_that_is_told_to_stop_commits_its_batches_and_leases_no_other(
    pool: Pool,
    stopping: WorkerProcess,
    postgres: Gate,
    database_url: str,
    redis_url: str,
    tmp_path: Path,
) -> None:
    assert await applied(pool) == set()
    assert await pool.fetchval(LEASED) == AT_ONCE
    postgres.release()
    async with asyncio.timeout(STOP_SECONDS_MAX):
        assert await stopping.wait() == 0
    await credited_once(pool, AT_ONCE)
    assert await pool.fetchval(LEASED) == 0
    await the_next_worker_applies_the_rest(pool, database_url, redis_url, tmp_path)


@pytest.mark.usefixtures("postgres")
async def test_the_batches_of_a_worker_that_is_killed_while_it_stops_are_taken_up_once(
    pool: Pool, stopping: WorkerProcess, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    stopping.kill()
    await stopping.wait()
    assert await applied(pool) == set()
    assert await pool.fetchval(LEASED) == AT_ONCE
    assert await pool.fetchval(LEASED_FOR) <= timedelta(seconds=LEASE_SECONDS)
    await pool.execute(LEASES_END)
    await the_next_worker_applies_the_rest(pool, database_url, redis_url, tmp_path)
