"""Heartbeats: each loop of each worker has a row, and says every few seconds that it runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from shared import metrics
from shared.db.queries import beside
from shared.errors import UnavailableError
from shared.heartbeats.model import KEPT_SECONDS, STALE_SECONDS, Beat, LoopHealth, WorkersHealth

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

QUERIES = beside(__file__)


class WorkersError(UnavailableError):
    """No worker runs."""


async def beat(connection: Connection, worker_id: UUID, beats: Sequence[Beat]) -> None:
    """Say that these loops of a worker run, and forget workers that are long gone."""
    await connection.execute(
        QUERIES.beat,
        worker_id,
        [b.loop for b in beats],
        [b.failing_seconds for b in beats],
        [b.error for b in beats],
    )
    await connection.execute(QUERIES.forget, timedelta(seconds=KEPT_SECONDS))


async def look(connection: Connection) -> WorkersHealth:
    """Return how the workers are, by PostgreSQL's clock."""
    rows = await connection.fetch(QUERIES.loops, STALE_SECONDS)
    workers = await connection.fetchval(QUERIES.workers, STALE_SECONDS)
    return WorkersHealth(workers, [LoopHealth(**row) for row in rows])


async def check(pool: Pool) -> None:
    """Raise WorkersError where no worker beats, or one loop beats in none."""
    async with pool.acquire() as connection:
        found = await look(connection)
    if found.workers == 0 or found.missing:
        raise WorkersError(found.problem)


async def measure(pool: Pool) -> None:
    """Set the gauges of the workers. Any process may: they are not its own."""
    async with pool.acquire() as connection:
        found = await look(connection)
    metrics.WORKERS.set(found.workers)
    metrics.WORKER_HEARTBEAT_AGE_SECONDS.clear()
    metrics.WORKER_LOOPS_FAILING.set(sum(health.failing for health in found.loops))
    for health in found.loops:
        age = math.inf if health.age_seconds is None else health.age_seconds
        metrics.WORKER_HEARTBEAT_AGE_SECONDS.labels(health.loop).set(age)
