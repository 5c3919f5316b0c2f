"""Closes the purchases that nobody has paid in time, on a clock."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from shared.payments import store
from worker.clock import repeat

if TYPE_CHECKING:
    from shared.db.pool import Pool

INTERVAL_SECONDS = 60.0
BATCH_ROWS_MAX = 200


class Closer:
    """Expires open purchases 25 hours after they were opened.

    A payment that comes later still makes such a purchase `paid`.
    """

    def __init__(self, pool: Pool, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._pool = pool
        self._interval_seconds = interval_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """Close until `stop` is set. PostgreSQL being away is waited out."""
        await repeat("closer", self.close, stop, interval_seconds=self._interval_seconds)

    async def close(self) -> int:
        """Close everything that is due by now; return how many purchases that were."""
        closed = 0
        while True:
            async with self._pool.acquire() as connection:
                count = await store.close_due(connection, rows_max=BATCH_ROWS_MAX)
            closed += count
            if count < BATCH_ROWS_MAX:
                return closed
