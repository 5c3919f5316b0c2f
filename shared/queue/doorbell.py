"""The doorbell: tells the workers, through Redis, that the inbox is not empty.

PostgreSQL is the truth. A ring that is lost, doubled or late changes nothing but latency, since the
worker's sweep finds every event by itself.
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

RING_INTERVAL_SECONDS = 0.005
# As many rings as this already wait, unanswered: one of them will find our event as well. Without
# the bound, a worker that is away for a day would come back to millions of rings.
PENDING_RINGS_MAX = 64
RING_EXPIRES_SECONDS = 3600


class Doorbell:
    """Rings at most once each few milliseconds, never blocks and never fails its caller."""

    def __init__(self, redis: ArqRedis) -> None:
        self._redis = redis
        self._wanted = False
        self._ringer: asyncio.Task[None] | None = None

    def ring(self) -> None:
        """Ask for a drain soon after now. Call it after the commit, so that the drain sees it."""
        self._wanted = True
        if self._ringer is None:
            self._ringer = asyncio.create_task(self._ring_while_wanted())

    async def close(self) -> None:
        """Wait for the ring that is under way, so that its connection is not left open."""
        if self._ringer is not None:
            await self._ringer

    async def _ring_while_wanted(self) -> None:
        try:
            while self._wanted:
                self._wanted = False
                await self._ring_once()
                await asyncio.sleep(RING_INTERVAL_SECONDS)
        finally:
            self._ringer = None

    async def _ring_once(self) -> None:
        try:
            if await self._redis.zcard(QUEUE_NAME) < PENDING_RINGS_MAX:
                # A random id: arq drops a fixed one while its last job is queued, running or kept.
                await self._redis.enqueue_job(
                    DRAIN_JOB, _job_id=uuid4().hex, _expires=RING_EXPIRES_SECONDS
                )
        except (RedisError, OSError, TimeoutError) as error:
            outages.REDIS.failed(error)
