"""Sweeps the inbox on a clock: lost rings, what a crash left behind, retries that are due."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from shared import metrics
from shared.db.pool import UNAVAILABLE
from shared.inbox import store
from shared.inbox.model import EventState
from worker.drainer import Drainer

if TYPE_CHECKING:
    from shared.db.pool import Pool

log = structlog.get_logger("sweeper")

SWEEP_SECONDS = 2.0
_OPEN = (EventState.RECEIVED, EventState.RETRYING, EventState.DEAD, EventState.QUARANTINED)


class Sweeper:
    """Drains every few seconds, with or without Redis, and measures the backlog."""

    def __init__(
        self, pool: Pool, drainer: Drainer, interval_seconds: float = SWEEP_SECONDS
    ) -> None:
        self._pool = pool
        self._drainer = drainer
        self._interval_seconds = interval_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """Sweep until `stop` is set. PostgreSQL being away is waited out."""
        while not stop.is_set():
            try:
                await self._drainer.drain()
                await self._measure()
            except UNAVAILABLE as error:
                log.warning("sweeper.database_unavailable", error=repr(error))
            try:
                await asyncio.wait_for(stop.wait(), self._interval_seconds)
            except TimeoutError:
                continue

    async def _measure(self) -> None:
        async with self._pool.acquire() as connection:
            backlog = await store.backlog(connection)
        for state in _OPEN:
            metrics.INBOX_BACKLOG.labels(state).set(backlog.get(state, (0, 0.0))[0])
        due = [
            backlog.get(state, (0, 0.0))[1] for state in (EventState.RECEIVED, EventState.RETRYING)
        ]
        metrics.INBOX_OLDEST_SECONDS.set(max(due))
