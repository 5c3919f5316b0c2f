"""Deadlines for requests: one timer for all of them instead of one each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from shared.errors import DeadlineError

Result = TypeVar("Result")

TICK_SECONDS = 1.0
# Long enough to record the end of an attempt, and for PostgreSQL to cancel a statement.
CLEAN_UP_SECONDS_MAX = 3.0


@dataclass(slots=True, eq=False)
class _Work:
    """Work in progress: its deadline, and how often it was cancelled again after that."""

    limit: asyncio.Timeout
    task: asyncio.Task[object]
    end: float
    cancelled_again: int = 0


class Deadlines:
    """Checks once a second for work past its deadline.

    A timer for each request was measured to cost a seventh of a read-only request. Work that
    survives its cancellation (such as a rollback on a frozen server) is cancelled again.
    """

    def __init__(
        self,
        *,
        tick_seconds: float = TICK_SECONDS,
        clean_up_seconds_max: float = CLEAN_UP_SECONDS_MAX,
    ) -> None:
        self._tick_seconds = tick_seconds
        self._clean_up_seconds_max = clean_up_seconds_max
        self._in_progress: set[_Work] = set()
        self._clock: asyncio.TimerHandle | None = None

    async def within(self, seconds: float, work: Awaitable[Result]) -> Result:
        """Return the result of the work.

        Work past its deadline is cancelled within a tick, and DeadlineError is raised. It has
        `clean_up_seconds_max` to clean up.
        """
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in one
        try:
            async with asyncio.timeout(None) as limit:
                this = _Work(limit, task, loop.time() + seconds)
                self._in_progress.add(this)
                if self._clock is None:
                    self._clock = loop.call_later(self._tick_seconds, self._tick, loop)
                try:
                    return await work
                finally:
                    self._in_progress.discard(this)
                    for _ in range(this.cancelled_again):
                        task.uncancel()
        except TimeoutError as error:
            if limit.expired():
                raise DeadlineError from error  # its traceback shows where the work was
            raise

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for work in self._in_progress:
            if now < work.end:
                continue
            if not work.limit.expired():
                work.limit.reschedule(now)
                work.end = now + self._clean_up_seconds_max
            else:
                work.cancelled_again += 1
                work.task.cancel()
        again = loop.call_later(self._tick_seconds, self._tick, loop) if self._in_progress else None
        self._clock = again
