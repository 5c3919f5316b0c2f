"""Wakeups: tell the workers, through Redis, that the inbox is not empty.

PostgreSQL is the truth. A wakeup that is lost, duplicated or late changes only latency: the
worker's sweep finds every event without it.

A wakeup is an entry of a list that idle workers wait for in a blocking read: one of them continues
at once. Beside it, at most one arq job a second tells the workers of earlier releases.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast
from uuid import uuid4

import structlog
from arq.connections import ArqRedis
from redis.exceptions import RedisError

from shared import outages
from shared.queue.connection import QUEUE_NAME
from shared.queue.jobs import DRAIN_JOB

log = structlog.get_logger()

WAKEUP_INTERVAL_SECONDS = 0.005
WAKEUPS_KEY = "prepaid:wakeups"
# A worker that reads an entry finds all events before it, so that few entries wake up every worker.
WAKEUPS_MAX = 8
WAKEUPS_EXPIRE_SECONDS = 3600
JOB_INTERVAL_SECONDS = 1.0
# Where this many jobs are queued, one of them will find this event as well. Without the limit, a
# worker that is down for a day would find thousands of them.
PENDING_JOBS_MAX = 64
JOB_EXPIRES_SECONDS = 3600


async def push(redis: ArqRedis) -> None:
    """Add a wakeup for one worker, in one round trip."""
    async with redis.pipeline(transaction=False) as pipeline:
        pipeline.lpush(WAKEUPS_KEY, b"")
        pipeline.ltrim(WAKEUPS_KEY, 0, WAKEUPS_MAX - 1)
        pipeline.expire(WAKEUPS_KEY, WAKEUPS_EXPIRE_SECONDS)
        await pipeline.execute()


async def wait(redis: ArqRedis, *, seconds_max: float) -> bool:
    """Wait for a wakeup and take it; return whether there was one in this time.

    `redis` must be a client that may be blocked for so long.
    """
    reading: Any = redis.blpop([WAKEUPS_KEY], timeout=cast("int", seconds_max))
    return await reading is not None


class Wakeup:
    """Sends at most one wakeup each few milliseconds; never blocks and never fails its caller."""

    def __init__(self, redis: ArqRedis, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._redis = redis
        self._monotonic = monotonic
        self._requested = False
        self._job_due_at = float("-inf")
        self._sender: asyncio.Task[None] | None = None

    def send(self) -> None:
        """Request a drain. Call it after the commit, so that the drain sees the event."""
        self._requested = True
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_while_requested())

    async def close(self) -> None:
        """Wait for the wakeup that is being sent, so that its connection is not left open."""
        if self._sender is not None:
            await self._sender

    async def _send_while_requested(self) -> None:
        try:
            while self._requested:
                self._requested = False
                await self._send_once()
                await asyncio.sleep(WAKEUP_INTERVAL_SECONDS)
        finally:
            self._sender = None

    async def _send_once(self) -> None:
        try:
            await push(self._redis)
            await self._enqueue_job()
        except (RedisError, OSError, TimeoutError) as error:
            outages.REDIS.failed(error)

    async def _enqueue_job(self) -> None:
        if self._monotonic() < self._job_due_at:
            return
        if await self._redis.zcard(QUEUE_NAME) < PENDING_JOBS_MAX:
            # A random id: arq drops a fixed one while its last job is queued, running or done.
            await self._redis.enqueue_job(
                DRAIN_JOB, _job_id=uuid4().hex, _expires=JOB_EXPIRES_SECONDS
            )
        self._job_due_at = self._monotonic() + JOB_INTERVAL_SECONDS
