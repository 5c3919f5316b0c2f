"""The loop that clears delivered messages and the details of ended recharge attempts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from shared import metrics
from shared.durations import Duration
from shared.retention import store
from worker.cleaners import INTERVAL_SECONDS, Cleaner, Delete

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

Oldest = Callable[["Connection"], Awaitable[datetime | None]]


class RetentionCleaner(Cleaner):
    """Clears what is older than its retention (None: never). The rows stay."""

    name = "retention_cleaner"

    def __init__(
        self,
        pool: Pool,
        interval_seconds: float = INTERVAL_SECONDS,
        *,
        messages: Duration | None = None,
        attempt_details: Duration | None = None,
        rows_max: int | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(pool, interval_seconds, rows_max=rows_max)
        self._messages = messages
        self._attempt_details = attempt_details
        self._now = now

    async def clean(self) -> int:
        """Clear everything that is old enough, and measure the rest; return the number of rows."""
        cleared = 0
        if self._messages is not None:
            clear = partial(store.clear_messages, retention=self._messages)
            cleared += await self._clean("messages", clear, store.oldest_message)
        if self._attempt_details is not None:
            clear = partial(store.clear_attempt_details, retention=self._attempt_details)
            cleared += await self._clean("attempt_details", clear, store.oldest_attempt_detail)
        return cleared

    async def _clean(self, kind: str, clear: Delete, oldest: Oldest) -> int:
        count = await self.delete(clear)
        metrics.RETENTION_CLEARED.labels(kind).inc(count)
        async with self._pool.acquire() as connection:
            time = await oldest(connection)
        age = 0.0 if time is None else (self._now() - time).total_seconds()
        metrics.RETENTION_OLDEST_SECONDS.labels(kind).set(age)
        return count
