"""A worker is killed, or frozen, with two batches: another one applies their events, and once."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest

from sandbox.product import WorkerProcess
from tests.fixtures.freezing import gate
from tests.fixtures.paid_purchases import applied, credited_once, open_purchases, receive_paid
from tests.fixtures.product import environment, until
from tests.fixtures.servers import process_url
from worker.drainer import BATCH_ROWS_MAX

if TYPE_CHECKING:
    from pathlib import Path

    from shared.db.pool import Pool
    from shared.organizations.model import Organization

EVENTS = 2 * BATCH_ROWS_MAX
LEASED = "SELECT count(*) FROM stripe_events WHERE lease_token IS NOT NULL"
LEASES_LOST = "SELECT max(leases_lost) FROM stripe_events"
# What a worker sends first in the transaction of a batch of payments, and last.
CLAIMS, OUTCOMES = b"bound_organization_id", b"error_trace = s.error_trace"


@pytest.mark.parametrize(
    ("number", "held_at"), [(signal.SIGKILL, OUTCOMES), (signal.SIGSTOP, CLAIMS)], ids=str
)
async def test_the_events_of_a_worker_that_dies_or_freezes_are_applied_by_another(
    pool: Pool,
    organization: Organization,
    database_url: str,
    redis_url: str,
    tmp_path: Path,
    number: signal.Signals,
    held_at: bytes,
) -> None:
    """With the lease of a default installation."""
    names = [f"taken{n}" for n in range(EVENTS)]
    await open_purchases(pool, organization.id, names)
    await receive_paid(pool, organization.id, names)
    async with gate(process_url(database_url)) as postgres:
        postgres.hold_at = held_at
        variables = environment(postgres.url, redis_url) | {"DATABASE_URL": postgres.url}
        worker = WorkerProcess(variables, tmp_path / "worker.log")
        other = WorkerProcess(environment(database_url, redis_url), tmp_path / "other.log")
        await worker.start()

        async def has_two() -> bool:
            return postgres.held >= 1 and await pool.fetchval(LEASED) == EVENTS

        async def all_applied() -> bool:
            return len(await applied(pool)) == EVENTS

        try:
            await until(has_two)
            assert await applied(pool) == set()
            os.kill(worker.pid, number)
            await other.start()
            await until(all_applied)
            assert await pool.fetchval(LEASES_LOST) == 1
            if number is signal.SIGSTOP:
                os.kill(worker.pid, signal.SIGCONT)
                postgres.release()
                assert await worker.stop() == 0
        finally:
            worker.kill()
            await asyncio.gather(worker.wait(), other.stop())
    await credited_once(pool, EVENTS)
