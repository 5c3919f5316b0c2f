"""The loop that reads the details of undescribed payment methods from Stripe."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from shared.events.payment_method_details import Lookup, fetch_missing
from worker.clock import repeat

if TYPE_CHECKING:
    from shared.db.pool import Pool

INTERVAL_SECONDS = 2.0


class PaymentMethodFetcher:
    """Fetches payment methods of which only the id is known."""

    def __init__(
        self,
        pool: Pool,
        lookup: Lookup,
        interval_seconds: float = INTERVAL_SECONDS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._pool = pool
        self._lookup = lookup
        self._interval_seconds = interval_seconds
        self._now = now

    async def run(self, stop: asyncio.Event) -> None:
        """Fetch until `stop` is set. Survives outages of PostgreSQL and Stripe."""
        await repeat(
            "payment_method_fetcher", self.fetch, stop, interval_seconds=self._interval_seconds
        )

    async def fetch(self) -> int:
        """Fetch all that are due; return the number of attempted payment methods."""
        return await fetch_missing(self._pool, self._lookup, now=self._now)
