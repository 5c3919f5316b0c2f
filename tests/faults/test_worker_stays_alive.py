"""A real worker that something goes wrong around: it goes on, and says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest_asyncio

from migrations.runner import migrate
from sandbox.product import WorkerProcess
from tests.fixtures.product import closed_port, environment, event_states, payment, receive, until

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization


@pytest_asyncio.fixture
async def role(pool: Pool, database_url: str) -> AsyncIterator[str]:
    """Give the worker a role of its own, as in production; return its name."""
    name = "worker_" + urlsplit(database_url).path.rpartition("_")[2]
    await pool.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'first'")
    await migrate(database_url, app_role=name)
    yield name
    await pool.execute(f"DROP OWNED BY {name}")
    await pool.execute(f"DROP ROLE {name}")


@pytest_asyncio.fixture
async def worker(
    database_url: str, redis_url: str, role: str, tmp_path: Path
) -> AsyncIterator[WorkerProcess]:
    url = urlsplit(database_url)
    address = url.netloc.rpartition("@")[2]
    own = url._replace(netloc=f"{role}:first@{address}").geturl()
    nowhere = {"STRIPE_API_BASE": f"http://127.0.0.1:{closed_port()}"}
    process = WorkerProcess(environment(own, redis_url) | nowhere, tmp_path / "worker.log")
    await process.start()
    try:
        yield process
    finally:
        await process.stop()


async def drained(pool: Pool, event_id: str) -> None:
    """Wait until the event was tried; without Stripe it waits for another try."""

    async def done() -> bool:
        return (await event_states(pool))[event_id] == "retrying"

    await until(done)


async def test_a_renamed_column_or_a_role_that_may_not_log_in_ends_no_worker(
    pool: Pool, organization: Organization, worker: WorkerProcess, role: str
) -> None:
    """R12."""
    await pool.execute("ALTER TABLE recharge_attempts RENAME COLUMN tries TO renamed")
    failed = await worker.wait_for_log("worker.loop_failed")
    assert failed["loop"].startswith("recharge")
    assert "UndefinedColumnError" in failed["exception"]
    await receive(pool, payment("1"))
    await drained(pool, "evt_1")
    await pool.execute("ALTER TABLE recharge_attempts RENAME COLUMN renamed TO tries")
    await worker.wait_for_log("worker.loop_recovered")

    await pool.execute(f"ALTER ROLE {role} NOLOGIN")
    await pool.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", role
    )
    await receive(pool, payment("2"))

    async def sweep_failed() -> bool:
        return any(
            line["event"] == "worker.loop_failed" and line["loop"] == "sweeper"
            for line in worker.log_lines()
        )

    await until(sweep_failed)
    await pool.execute(f"ALTER ROLE {role} LOGIN")
    await drained(pool, "evt_2")
    assert worker.is_running
    # Once for each time that a loop begins to fail, however often it is tried.
    assert len([line for line in worker.log_lines() if line["event"] == "worker.loop_failed"]) < 30
    assert await worker.stop() == 0
