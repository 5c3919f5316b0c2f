"""Measures event loop lag: while one request computes, all others wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from shared import metrics

TICK_SECONDS = 0.02
WINDOW_SECONDS = 60


@asynccontextmanager
async def watch() -> AsyncIterator[None]:
    """Set `prepaid_event_loop_lag_seconds` to the longest delay within the last minute."""
    watching = asyncio.create_task(_watch())
    try:
        yield
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


async def _watch() -> None:
    loop = asyncio.get_running_loop()
    longest_of_each_second: deque[float] = deque(maxlen=WINDOW_SECONDS)
    while True:
        longest = 0.0
        second_ends = loop.time() + 1
        while (before := loop.time()) < second_ends:
            await asyncio.sleep(TICK_SECONDS)
            longest = max(longest, loop.time() - before - TICK_SECONDS)
        longest_of_each_second.append(longest)
        metrics.EVENT_LOOP_LAG_SECONDS.set(max(longest_of_each_second))
