"""The loop that expires unpaid purchases."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from shared.payments import store
from worker.clock import repeat

if TYPE_CHECKING:
    from shared.db.pool import Pool

INTERVAL_SECONDS = 60.0
BATCH_ROWS_MAX = 200


class PurchaseExpirer:
    """Expires open purchases 25 hours after they were opened.

    A payment that arrives later still makes such a purchase `paid`.
    """

    def __init__(self, pool: Pool, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._pool = pool
        self._interval_seconds = interval_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """Expire until `stop` is set. Survives outages of PostgreSQL."""
        await repeat(
            "purchase_expirer",
            self.expire,
            stop,
            interval_seconds=self._interval_seconds,
            interruptible=True,
        )

    async def expire(self) -> int:
        """Expire every purchase that is due; return their number."""
        expired = 0
        while True:
            async with self._pool.acquire() as connection:
                count = await store.expire_purchases(connection, rows_max=BATCH_ROWS_MAX)
            expired += count
            if count < BATCH_ROWS_MAX:
                return expired
