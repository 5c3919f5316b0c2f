"""An end for whatever takes too long: one clock for all requests, and no timer for each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from shared.errors import DeadlineError

Result = TypeVar("Result")

TICK_SECONDS = 1.0
# Long enough to write that a try has ended, and for PostgreSQL to stop a statement.
CLEAN_UP_SECONDS_MAX = 3.0


@dataclass(slots=True, eq=False)
class _Work:
    """What is under way: when it is over its time, and how often it was cancelled after that."""

    limit: asyncio.Timeout
    task: asyncio.Task[object]
    end: float
    cancelled_again: int = 0


class Deadlines:
    """Looks once a second for what is over its time.

    A timer for each request was measured to cost a seventh of a request that only reads. What does
    not end when it is cancelled is cancelled again: a rollback on a server that is frozen, say.
    """

    def __init__(
        self,
        *,
        tick_seconds: float = TICK_SECONDS,
        clean_up_seconds_max: float = CLEAN_UP_SECONDS_MAX,
    ) -> None:
        self._tick_seconds = tick_seconds
        self._clean_up_seconds_max = clean_up_seconds_max
        self._under_way: set[_Work] = set()
        self._clock: asyncio.TimerHandle | None = None

    async def within(self, seconds: float, work: Awaitable[Result]) -> Result:
        """Return what the work returns.

        Work that takes longer, by up to a tick, is cancelled: DeadlineError. It has a few seconds
        to clean up.
        """
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in one
        try:
            async with asyncio.timeout(None) as limit:
                this = _Work(limit, task, loop.time() + seconds)
                self._under_way.add(this)
                if self._clock is None:
                    self._clock = loop.call_later(self._tick_seconds, self._tick, loop)
                try:
                    return await work
                finally:
                    self._under_way.discard(this)
                    for _ in range(this.cancelled_again):
                        task.uncancel()
        except TimeoutError as error:
            if limit.expired():
                raise DeadlineError from error  # its trace says where the work was
            raise

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for work in self._under_way:
            if now < work.end:
                continue
            if not work.limit.expired():
                work.limit.reschedule(now)
                work.end = now + self._clean_up_seconds_max
            else:
                work.cancelled_again += 1
                work.task.cancel()
        again = loop.call_later(self._tick_seconds, self._tick, loop) if self._under_way else None
        self._clock = again
