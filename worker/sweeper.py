"""The loop that drains the inbox without a wakeup: lost wakeups, expired leases, due retries."""

from __future__ import annotations

import asyncio

from worker.clock import repeat
from worker.drainer import Drainer

SWEEP_SECONDS = 2.0


class Sweeper:
    """Drains every few seconds, with or without Redis.

    While new events keep arriving, draining the shared lane does not end; a second loop therefore
    starts the other lanes. It waits no longer than until the next of their events is due, so that a
    lease that ends with its worker is noticed at once.
    """

    def __init__(self, drainer: Drainer, interval_seconds: float = SWEEP_SECONDS) -> None:
        self._drainer = drainer
        self._interval_seconds = interval_seconds
        self._due = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Sweep until `stop` is set. Survives outages of PostgreSQL."""
        works = {
            "sweeper": (self._drainer.drain_new, None),
            "lane_sweeper": (self._start_other_lanes, self._due),
        }
        async with asyncio.TaskGroup() as loops:
            for name, (work, due) in works.items():
                loops.create_task(
                    repeat(name, work, stop, interval_seconds=self._interval_seconds, wake=due)
                )

    async def _start_other_lanes(self) -> None:
        self._due.clear()
        due_in = await self._drainer.start_other_lanes()
        if due_in is not None and due_in < self._interval_seconds:
            asyncio.get_running_loop().call_later(due_in, self._due.set)
