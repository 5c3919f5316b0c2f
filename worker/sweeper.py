"""Sweeps the inbox on a clock: lost rings, what a crash left behind, retries that are due."""

from __future__ import annotations

import asyncio

from worker.clock import repeat
from worker.drainer import Drainer

SWEEP_SECONDS = 2.0


class Sweeper:
    """Drains every few seconds, with or without Redis.

    While new events keep coming, draining them does not end: the other lanes are looked at by a
    loop of their own.
    """

    def __init__(self, drainer: Drainer, interval_seconds: float = SWEEP_SECONDS) -> None:
        self._drainer = drainer
        self._interval_seconds = interval_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """Sweep until `stop` is set. PostgreSQL being away is waited out."""
        works = {
            "sweeper": self._drainer.answer_ring,
            "lane_sweeper": self._drainer.start_other_lanes,
        }
        async with asyncio.TaskGroup() as loops:
            for name, work in works.items():
                loops.create_task(repeat(name, work, stop, interval_seconds=self._interval_seconds))
