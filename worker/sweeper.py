"""Sweeps the inbox on a clock: lost rings, what a crash left behind, retries that are due."""

from __future__ import annotations

import asyncio

import structlog

from shared.db.pool import UNAVAILABLE
from worker.drainer import Drainer

log = structlog.get_logger()

SWEEP_SECONDS = 2.0


class Sweeper:
    """Drains every few seconds, with or without Redis."""

    def __init__(self, drainer: Drainer, interval_seconds: float = SWEEP_SECONDS) -> None:
        self._drainer = drainer
        self._interval_seconds = interval_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """Sweep until `stop` is set. PostgreSQL being away is waited out."""
        while not stop.is_set():
            try:
                await self._drainer.drain()
            except UNAVAILABLE as error:
                log.warning("sweeper.database_unavailable", error=repr(error))
            except Exception:  # this loop is what everything else relies on: it goes on
                log.exception("sweeper.failed")
            try:
                await asyncio.wait_for(stop.wait(), self._interval_seconds)
            except TimeoutError:
                continue
