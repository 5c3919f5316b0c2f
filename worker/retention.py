"""The loop that clears delivered messages and the details of ended recharge attempts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from shared.durations import Duration
from shared.retention import store
from worker.cleaners import INTERVAL_SECONDS, Cleaner

if TYPE_CHECKING:
    from shared.db.pool import Pool


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
        super().__init__(pool, interval_seconds, rows_max=rows_max, now=now)
        self._messages = messages
        self._attempt_details = attempt_details

    async def clean(self) -> int:
        """Clear everything that is old enough, and measure the rest; return the number of rows."""
        cleared = 0
        if self._messages is not None:
            clear = partial(store.clear_messages, retention=self._messages)
            cleared += await self.clear("messages", clear, store.oldest_message)
        if self._attempt_details is not None:
            clear = partial(store.clear_attempt_details, retention=self._attempt_details)
            cleared += await self.clear("attempt_details", clear, store.oldest_attempt_detail)
        return cleared
