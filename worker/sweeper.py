"""The loop that drains the inbox without a wakeup: lost wakeups, expired leases, due retries."""

from __future__ import annotations

import asyncio

from worker.clock import repeat
from worker.drainer import Drainer

SWEEP_SECONDS = 2.0


class Sweeper:
    """Drains every few seconds, with or without Redis.

    While new events keep arriving, draining the shared lane does not end; a second loop therefore
    starts the other lanes.
    """

    def __init__(self, drainer: Drainer, interval_seconds: float = SWEEP_SECONDS) -> None:
        self._drainer = drainer
        self._interval_seconds = interval_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """Sweep until `stop` is set. Survives outages of PostgreSQL."""
        works = {
            "sweeper": self._drainer.drain_new,
            "lane_sweeper": self._drainer.start_other_lanes,
        }
        async with asyncio.TaskGroup() as loops:
            for name, work in works.items():
                loops.create_task(repeat(name, work, stop, interval_seconds=self._interval_seconds))
