"""The loop that checks the invariants each minute."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from shared.invariants import service
from shared.invariants.catalog import INVARIANTS
from worker.clock import repeat

if TYPE_CHECKING:
    from shared.db.pool import Pool

INTERVAL_SECONDS = 60.0


class InvariantChecker:
    """Checks every invariant once a minute, in one of the workers.

    What an index finds is checked completely each time. What reads every account goes on where the
    last round ended, at most 5,000 accounts further.
    """

    def __init__(self, pool: Pool, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._pool = pool
        self._interval_seconds = interval_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """Check until `stop` is set. Survives outages of PostgreSQL."""
        await repeat(
            "invariant_checker",
            self.check,
            stop,
            interval_seconds=self._interval_seconds,
            interruptible=True,
        )

    async def check(self) -> None:
        """Check what is due; one invariant whose check fails does not stop the others."""
        errors = []
        for invariant in INVARIANTS:
            try:
                await service.check(self._pool, invariant)
            except Exception as error:  # noqa: BLE001 - the others are checked first, then it is raised
                errors.append(error)
        if errors:
            raise errors[0]
