"""Wakeups: tell the workers, through Redis, that the inbox is not empty.

PostgreSQL is the truth. A wakeup that is lost, duplicated or late changes only latency: the
worker's sweep finds every event without it.
"""

from __future__ import annotations

import asyncio
from uuid import uuid4

import structlog
from arq.connections import ArqRedis
from redis.exceptions import RedisError

from shared import outages
from shared.queue.connection import QUEUE_NAME
from shared.queue.jobs import DRAIN_JOB

log = structlog.get_logger()

WAKEUP_INTERVAL_SECONDS = 0.005
# Where this many wakeups are queued, one of them will find this event as well. Without the limit, a
# worker that is down for a day would find millions of them.
PENDING_WAKEUPS_MAX = 64
WAKEUP_EXPIRES_SECONDS = 3600


class Wakeup:
    """Sends at most one wakeup each few milliseconds; never blocks and never fails its caller."""

    def __init__(self, redis: ArqRedis) -> None:
        self._redis = redis
        self._requested = False
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
            if await self._redis.zcard(QUEUE_NAME) < PENDING_WAKEUPS_MAX:
                # A random id: arq drops a fixed one while its last job is queued, running or done.
                await self._redis.enqueue_job(
                    DRAIN_JOB, _job_id=uuid4().hex, _expires=WAKEUP_EXPIRES_SECONDS
                )
        except (RedisError, OSError, TimeoutError) as error:
            outages.REDIS.failed(error)
