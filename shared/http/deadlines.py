"""Deadlines for requests: one timer for all of them instead of one each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import msgspec

from shared.errors import DeadlineError

Result = TypeVar("Result")

TICK_SECONDS = 1.0
# Long enough to record the end of an attempt, and for PostgreSQL to cancel a statement.
CLEAN_UP_SECONDS_MAX = 3.0


class _Work(msgspec.Struct, eq=False):
    """Work in progress: its deadline, and how often its task was cancelled, before and for that."""

    task: asyncio.Task[object]
    cancelled_before: int
    end: float
    cancelled: int = 0


class Deadlines:
    """Checks once a second for work past its deadline.

    A timer for each request was measured to cost a seventh of a read-only request, and
    `asyncio.timeout` without a timer a thirtieth. Work that survives its cancellation (such as a
    rollback on a frozen server) is cancelled again.
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
        self._loop: asyncio.AbstractEventLoop  # while there is a clock

    async def within(self, seconds: float, work: Awaitable[Result]) -> Result:
        """Return the result of the work.

        Work past its deadline is cancelled within a tick, and DeadlineError is raised. It has
        `clean_up_seconds_max` to clean up.
        """
        if self._clock is None:
            self._loop = asyncio.get_running_loop()  # a system call (getpid), up to Python 3.11
            self._clock = self._loop.call_later(self._tick_seconds, self._tick, self._loop)
        loop = self._loop
        task = asyncio.current_task(loop)
        assert task is not None  # noqa: S101 - a coroutine runs in one
        this = _Work(task, task.cancelling(), loop.time() + seconds)
        self._in_progress.add(this)
        try:
            return await work
        except (asyncio.CancelledError, TimeoutError) as error:
            by_others = task.cancelling() - this.cancelled > this.cancelled_before
            if not this.cancelled or by_others:
                raise
            raise DeadlineError from error  # its traceback shows where the work was
        finally:
            self._in_progress.discard(this)
            for _ in range(this.cancelled):
                task.uncancel()

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for work in self._in_progress:
            if now >= work.end:
                self._cancel(work, now)
        again = loop.call_later(self._tick_seconds, self._tick, loop) if self._in_progress else None
        self._clock = again

    def _cancel(self, work: _Work, now: float) -> None:
        if not work.cancelled:
            work.end = now + self._clean_up_seconds_max
        work.cancelled += 1
        work.task.cancel()
