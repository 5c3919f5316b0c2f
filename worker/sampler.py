"""The loop that samples a few values each minute, for the charts of the console."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from shared.samples import service
from worker.clock import repeat

if TYPE_CHECKING:
    from shared.db.pool import Pool

INTERVAL_SECONDS = 10.0


class Sampler:
    """Samples the minute that ended last. Of several workers, one samples each minute.

    A minute in which no worker runs has no samples: a chart shows a gap, and not a zero.
    """

    def __init__(self, pool: Pool, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._pool = pool
        self._interval_seconds = interval_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """Sample until `stop` is set. Survives outages of PostgreSQL."""
        await repeat(
            "sampler",
            self.sample,
            stop,
            interval_seconds=self._interval_seconds,
            interruptible=True,
        )

    async def sample(self) -> int:
        """Sample the last minute, unless that is done; return how many samples were stored."""
        async with self._pool.acquire() as connection, connection.transaction():
            return len(await service.sample(connection))
