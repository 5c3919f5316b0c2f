"""The loop that records every few seconds that this worker and its loops are alive."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from uuid import UUID

from shared import outages
from shared.db.pool import UNAVAILABLE
from shared.heartbeats import store
from shared.heartbeats.model import BEAT_SECONDS, Beat
from worker import clock

if TYPE_CHECKING:
    from shared.db.pool import Pool


RETIRE_SECONDS_MAX = 2.0


class Heartbeat:
    """Updates a row for each running loop; a frozen or dead worker's rows become stale."""

    def __init__(self, pool: Pool, worker_id: UUID, interval_seconds: float = BEAT_SECONDS) -> None:
        self._pool = pool
        self._worker_id = worker_id
        self._interval_seconds = interval_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """Record heartbeats until `stop` is set, then retire. Survives outages of PostgreSQL."""
        await clock.repeat("heartbeat", self.beat, stop, interval_seconds=self._interval_seconds)
        # A frozen server must not hold up the end: what is left is deleted within an hour.
        await asyncio.wait({asyncio.create_task(self._retire())}, timeout=RETIRE_SECONDS_MAX)

    async def _retire(self) -> None:
        try:
            async with self._pool.acquire() as connection:
                await store.retire(connection, self._worker_id)
        except UNAVAILABLE as error:
            outages.POSTGRES.failed(error)

    async def beat(self) -> None:
        """Record which loops run, and which of them fail."""
        now = time.monotonic()
        beats = [
            Beat(
                name,
                None if state.failing_since is None else now - state.failing_since,
                state.error,
            )
            for name, state in clock.running.items()
        ]
        async with self._pool.acquire() as connection:
            await store.beat(connection, self._worker_id, beats)
