"""Heartbeats: each loop of each worker updates its row every few seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from shared import metrics
from shared.db.queries import beside
from shared.errors import UnavailableError
from shared.heartbeats.model import (
    RETENTION_SECONDS,
    STALE_SECONDS,
    Beat,
    LoopHealth,
    WorkersHealth,
)

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

QUERIES = beside(__file__)


class WorkersError(UnavailableError):
    """No worker runs."""


async def beat(connection: Connection, worker_id: UUID, beats: Sequence[Beat]) -> None:
    """Record the heartbeats of a worker's loops, and delete those of workers long gone."""
    await connection.execute(
        QUERIES.beat,
        worker_id,
        [b.loop for b in beats],
        [b.failing_seconds for b in beats],
        [b.error for b in beats],
    )
    await connection.execute(QUERIES.purge, timedelta(seconds=RETENTION_SECONDS))


async def retire(connection: Connection, worker_id: UUID) -> None:
    """Delete the heartbeats of a worker that stops, except the last sign of the worker itself."""
    await connection.execute(QUERIES.retire, worker_id)


async def health(connection: Connection) -> WorkersHealth:
    """Return the health of the workers, by PostgreSQL's clock."""
    rows = await connection.fetch(QUERIES.loops, STALE_SECONDS)
    workers = await connection.fetchval(QUERIES.workers, STALE_SECONDS)
    return WorkersHealth(workers, [LoopHealth(**row) for row in rows])


async def check(pool: Pool) -> None:
    """Raise WorkersError where no worker has a fresh heartbeat, or a loop runs in none."""
    async with pool.acquire() as connection:
        workers = await health(connection)
    if workers.workers == 0 or workers.missing:
        raise WorkersError(workers.problem)


async def measure(pool: Pool) -> None:
    """Set the gauges of the workers. They concern the installation, so any process may."""
    async with pool.acquire() as connection:
        workers = await health(connection)
    metrics.WORKERS.set(workers.workers)
    metrics.WORKER_HEARTBEAT_AGE_SECONDS.clear()
    metrics.WORKER_LOOPS_FAILING.set(sum(loop.failing for loop in workers.loops))
    for loop in workers.loops:
        age = math.inf if loop.age_seconds is None else loop.age_seconds
        metrics.WORKER_HEARTBEAT_AGE_SECONDS.labels(loop.loop).set(age)
