"""Has Stripe describe the payment methods that no event has described, on a clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from shared.events.describing import Lookup, describe_unknown
from worker.clock import repeat

if TYPE_CHECKING:
    from shared.db.pool import Pool

INTERVAL_SECONDS = 2.0


class Describer:
    """Asks Stripe for payment methods of which the id alone is known."""

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
        """Describe until `stop` is set. PostgreSQL and Stripe being away are waited out."""
        await repeat("describer", self.describe, stop, interval_seconds=self._interval_seconds)

    async def describe(self) -> int:
        """Describe what is due by now; return how many payment methods were tried."""
        return await describe_unknown(self._pool, self._lookup, now=self._now)
