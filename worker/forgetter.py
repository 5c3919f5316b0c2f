"""Forgets the answers that no client asks for again, on a clock."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.idempotency import store
from worker.clock import repeat

if TYPE_CHECKING:
    from shared.db.pool import Pool

INTERVAL_SECONDS = 600.0
KEPT = timedelta(days=7)
BATCH_ROWS_MAX = 1_000


class Forgetter:
    """Deletes the answers of Idempotency-Keys that are older than a week.

    Transactions, holds and grants do not depend on them: their ids stand on the ledger for ever.
    """

    def __init__(self, pool: Pool, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._pool = pool
        self._interval_seconds = interval_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """Forget until `stop` is set. PostgreSQL being away is waited out."""
        await repeat("forgetter", self.forget, stop, interval_seconds=self._interval_seconds)

    async def forget(self) -> int:
        """Forget everything that is old by now; return how many answers that were."""
        forgotten = 0
        while True:
            async with self._pool.acquire() as connection:
                count = await store.purge(connection, KEPT, rows_max=BATCH_ROWS_MAX)
            forgotten += count
            if count < BATCH_ROWS_MAX:
                return forgotten
