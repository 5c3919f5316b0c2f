"""How many requests a key may send in a minute, over all processes together."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.errors import RateLimitError

log = structlog.get_logger()

WINDOW_SECONDS = 60
SHARE_INTERVAL_SECONDS = 0.1


class Limiter:
    """Counts here, and shares the counts through Redis ten times a second.

    A request waits for no server. Processes that run beside each other let at most a tenth of a
    second's requests too many through. While Redis is away each process counts for itself.
    `requests_per_minute` 0 is no limit.
    """

    def __init__(
        self, redis: Redis, requests_per_minute: int, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._redis = redis
        self._limit = requests_per_minute
        self._clock = clock
        self._window = 0
        self._seen: Counter[UUID] = Counter()  # by all, as far as this process knows
        self._unshared: Counter[UUID] = Counter()
        self._sharing: asyncio.Task[None] | None = None

    def take(self, key_id: UUID) -> None:
        """Count a request; raise RateLimitError, which says when to come back."""
        if self._limit == 0:
            return
        now = self._clock()
        self._turn_to(int(now // WINDOW_SECONDS))
        if self._seen[key_id] >= self._limit:
            wait = WINDOW_SECONDS - int(now % WINDOW_SECONDS)
            raise RateLimitError(
                f"At most {self._limit} requests a minute; try again in {wait} s.",
                retry_after_seconds=wait,
            )
        self._seen[key_id] += 1
        self._unshared[key_id] += 1
        if self._sharing is None:
            self._sharing = asyncio.create_task(self._share())

    async def close(self) -> None:
        """Share what is counted, for the last time."""
        if self._sharing is not None:
            await self._sharing

    def _turn_to(self, window: int) -> None:
        if window != self._window:
            self._window = window
            self._seen.clear()
            self._unshared.clear()

    async def _share(self) -> None:
        try:
            while self._unshared:
                await asyncio.sleep(SHARE_INTERVAL_SECONDS)
                await self._share_once()
        finally:
            self._sharing = None

    async def _share_once(self) -> None:
        window = self._window
        counts = list(self._unshared.items())
        self._unshared.clear()
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                for key_id, count in counts:
                    name = f"prepaid:rate:{key_id}:{window}"
                    pipe.incrby(name, count)
                    pipe.expire(name, 2 * WINDOW_SECONDS)
                totals = (await pipe.execute())[::2]
        except (RedisError, OSError, TimeoutError) as error:
            log.debug("limits.redis_unavailable", error=repr(error))
            return
        if window == self._window:
            for (key_id, _), total in zip(counts, totals, strict=True):
                self._seen[key_id] = max(self._seen[key_id], total + self._unshared[key_id])
