"""Waits for wakeups in blocking reads, and drains the inbox at each."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from redis.exceptions import RedisError, ResponseError

from shared import metrics, outages
from shared.db.pool import UNAVAILABLE
from shared.queue import wakeup
from shared.queue.connection import connect
from worker.clock import repeat
from worker.drainer import Drainer

if TYPE_CHECKING:
    from arq.connections import ArqRedis

log = structlog.get_logger()

# A reader takes its next wakeup after its drain: while all are busy, wakeups wait for another
# worker, and the events of several become one batch.
READERS = 2
# A connection that was cut without a sign is noticed this much later, and the time of a command.
BLOCKED_SECONDS_MAX = 5
# Applied events may reopen others, which have no wakeup: a reader looks once more after a drain.
LOOK_AGAIN_SECONDS = 0.1
RECONNECT_SECONDS = 1.0
# A frozen Redis must not hold up the end.
HAND_OVER_SECONDS_MAX = 1.0


class WakeupReader:
    """Drains new events at each wakeup; several readers, any number of workers.

    A wakeup reaches one reader. If that one dies, or Redis loses the wakeup, the sweeper finds the
    events.
    """

    def __init__(
        self, redis_url: str, drainer: Drainer, reconnect_seconds: float = RECONNECT_SECONDS
    ) -> None:
        self._redis_url = redis_url
        self._drainer = drainer
        self._reconnect_seconds = reconnect_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """Drain at each wakeup until `stop` is set. Survives outages of Redis and PostgreSQL."""
        redis = connect(self._redis_url, blocked_seconds_max=BLOCKED_SECONDS_MAX)
        async with asyncio.TaskGroup() as loops:
            for number in range(1, READERS + 1):
                loops.create_task(
                    repeat(
                        f"wakeup_reader_{number}",
                        partial(self._read, redis, stop),
                        stop,
                        interval_seconds=self._reconnect_seconds,
                    )
                )
        await self._hand_over(redis)

    async def _read(self, redis: ArqRedis, stop: asyncio.Event) -> None:
        """Read and drain until Redis fails or `stop` is set."""
        drained = 0
        try:
            while not stop.is_set():
                seconds = LOOK_AGAIN_SECONDS if drained else BLOCKED_SECONDS_MAX
                woken = await _until(stop, wakeup.wait(redis, seconds_max=seconds))
                drained = await self._drain() if woken or drained else 0
        except ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                outages.REDIS.failed(error)
                return
            # Another program has written to the key; it would end each read.
            metrics.QUEUE_JOBS_REFUSED.labels("unreadable").inc()
            log.warning("listener.job_refused", reason="unreadable", error=type(error).__name__)
            await redis.delete(wakeup.WAKEUPS_KEY)
        except (RedisError, OSError) as error:
            outages.REDIS.failed(error)

    async def _drain(self) -> int:
        try:
            return await self._drainer.drain_new()
        except UNAVAILABLE as error:  # the sweeper applies the events
            if not outages.POSTGRES.failed(error):
                log.warning("wakeup_reader.drain_failed", error=repr(error))
            return 0

    async def _hand_over(self, redis: ArqRedis) -> None:
        """Wake another worker: for events that this one has left, and a wakeup it has lost."""
        try:
            async with asyncio.timeout(HAND_OVER_SECONDS_MAX):
                await wakeup.push(redis)
            await redis.aclose(close_connection_pool=True)
        except (RedisError, OSError) as error:  # the process ends, and its connections with it
            log.debug("wakeup_reader.hand_over_failed", error=repr(error))


async def _until(stop: asyncio.Event, reading: Coroutine[Any, Any, bool]) -> bool:
    """Return whether a wakeup was read before `stop` was set."""
    read = asyncio.create_task(reading)
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({read, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not read.done():
        read.cancel()
        await asyncio.gather(read, return_exceptions=True)
        return False
    return read.result()
