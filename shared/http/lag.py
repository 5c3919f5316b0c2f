"""Measures event loop lag: while one request computes, all others wait."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from shared import metrics

TICK_SECONDS = 0.02
# A process that computes less than this in a second delays nobody, and ticking would be most of it.
IDLE_PROCESSOR_SECONDS = 0.02
IDLE_TICK_SECONDS = 0.2
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
    tick = TICK_SECONDS
    while True:
        longest = 0.0
        second_ends = loop.time() + 1
        used = time.process_time()
        while (before := loop.time()) < second_ends:
            await asyncio.sleep(tick)
            longest = max(longest, loop.time() - before - tick)
        is_idle = time.process_time() - used < IDLE_PROCESSOR_SECONDS
        tick = IDLE_TICK_SECONDS if is_idle else TICK_SECONDS
        longest_of_each_second.append(longest)
        metrics.EVENT_LOOP_LAG_SECONDS.set(max(longest_of_each_second))
