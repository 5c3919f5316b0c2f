"""Deletes what nobody asks for again, on a clock: old answers and expired sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.access import sessions
from shared.idempotency import store
from worker.clock import repeat

if TYPE_CHECKING:
    from shared.db.pool import Pool

INTERVAL_SECONDS = 600.0
KEPT = timedelta(days=7)
SESSIONS_KEPT = timedelta(hours=1)
BATCH_ROWS_MAX = 1_000


class Forgetter:
    """Deletes the answers of Idempotency-Keys that are older than a week, and expired sessions.

    Transactions, holds and grants do not depend on them: their ids stand on the ledger for ever.
    """

    def __init__(self, pool: Pool, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._pool = pool
        self._interval_seconds = interval_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """Forget until `stop` is set. PostgreSQL being away is waited out."""
        await repeat(
            self.forget,
            stop,
            interval_seconds=self._interval_seconds,
            unavailable="forgetter.database_unavailable",
            failed="forgetter.failed",
        )

    async def forget(self) -> int:
        """Delete everything that is old by now, in bounded batches; return how many rows."""
        return await self._delete(store.purge, KEPT) + await self._delete(
            sessions.purge, SESSIONS_KEPT
        )

    async def _delete(self, purge: Callable[..., Awaitable[int]], kept: timedelta) -> int:
        deleted = 0
        while True:
            async with self._pool.acquire() as connection:
                count = await purge(connection, kept, rows_max=BATCH_ROWS_MAX)
            deleted += count
            if count < BATCH_ROWS_MAX:
                return deleted
