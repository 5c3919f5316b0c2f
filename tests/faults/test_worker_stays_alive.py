"""A real worker that something goes wrong around: it goes on, and says so."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest_asyncio

from migrations.runner import migrate
from sandbox.product import WorkerProcess
from shared.heartbeats import store
from shared.heartbeats.model import STALE_SECONDS
from tests.fixtures.commands import Command
from tests.fixtures.product import closed_port, environment, event_states, payment, receive, until
from tests.fixtures.servers import execute

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization


@pytest_asyncio.fixture
async def role(database_url: str, superuser_url: str) -> AsyncIterator[str]:
    """Give the worker a role of its own, as in production; return its name."""
    name = "worker_" + urlsplit(database_url).path.rpartition("_")[2]
    await execute(superuser_url, f"CREATE ROLE {name} LOGIN PASSWORD 'first'")
    await migrate(database_url, app_role=name)
    yield name
    await execute(superuser_url, f"DROP OWNED BY {name}; DROP ROLE {name}")


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


async def test_an_unexpected_error_ends_no_worker_and_a_frozen_worker_is_noticed(
    pool: Pool,
    superuser_url: str,
    organization: Organization,
    worker: WorkerProcess,
    role: str,
    prepaid: Command,
) -> None:
    """R12 and R13."""
    await pool.execute("ALTER TABLE recharge_attempts RENAME COLUMN due_at TO renamed")
    failed = await worker.wait_for_log("worker.loop_failed")
    assert failed["loop"].startswith("recharge")
    assert "UndefinedColumnError" in failed["exception"]
    await receive(pool, payment("1"))
    await drained(pool, "evt_1")
    await pool.execute("ALTER TABLE recharge_attempts RENAME COLUMN renamed TO due_at")
    await worker.wait_for_log("worker.loop_recovered")

    await execute(
        superuser_url,
        f"ALTER ROLE {role} NOLOGIN;"  # noqa: S608 - ours
        f" SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'",
    )
    await receive(pool, payment("2"))

    async def sweep_failed() -> bool:
        return any(
            line["event"] == "worker.loop_failed" and line["loop"] == "sweeper"
            for line in worker.log_lines()
        )

    await until(sweep_failed)
    await execute(superuser_url, f"ALTER ROLE {role} LOGIN")
    await drained(pool, "evt_2")
    assert worker.is_running
    # A frozen one does not beat. Its last beats are made older, so that the test need not wait.
    os.kill(worker.pid, signal.SIGSTOP)
    await pool.execute(
        "UPDATE worker_heartbeats SET beat_at = beat_at - make_interval(secs => $1)", STALE_SECONDS
    )
    finished = await prepaid(
        "doctor", "--json", STRIPE_API_BASE=f"http://127.0.0.1:{closed_port()}"
    )
    (check,) = (check for check in finished.json["checks"] if check["name"] == "workers")
    assert not check["ok"]
    assert "no worker runs (the last heartbeat is 2" in check["detail"]
    os.kill(worker.pid, signal.SIGCONT)

    async def beats() -> bool:
        async with pool.acquire() as connection:
            return (await store.health(connection)).workers == 1

    await until(beats)
    # Once for each time that a loop begins to fail, however often it is tried.
    assert len([line for line in worker.log_lines() if line["event"] == "worker.loop_failed"]) < 30
    assert await worker.stop() == 0
