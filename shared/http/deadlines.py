"""An end for whatever takes too long: one clock for all requests, and no timer for each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from shared.errors import DeadlineError

Result = TypeVar("Result")

TICK_SECONDS = 1.0


class Deadlines:
    """Looks once a second for what is over its time.

    A timer for each request was measured to cost a seventh of a request that only reads.
    """

    def __init__(self, *, tick_seconds: float = TICK_SECONDS) -> None:
        self._tick_seconds = tick_seconds
        self._ends: dict[asyncio.Timeout, float] = {}
        self._clock: asyncio.TimerHandle | None = None

    async def within(self, seconds: float, work: Awaitable[Result]) -> Result:
        """Return what the work returns.

        Work that takes longer, by up to a tick, is cancelled: DeadlineError.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as limit:
                self._ends[limit] = loop.time() + seconds
                if self._clock is None:
                    self._clock = loop.call_later(self._tick_seconds, self._tick, loop)
                return await work
        except TimeoutError as error:
            if limit.expired():
                raise DeadlineError from error  # its trace says where the work was
            raise
        finally:
            self._ends.pop(limit, None)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for limit in [limit for limit, end in self._ends.items() if end <= now]:
            del self._ends[limit]
            limit.reschedule(now)
        again = loop.call_later(self._tick_seconds, self._tick, loop) if self._ends else None
        self._clock = again
