"""Rate limits: a token bucket for each key across all processes, one for unauthenticated calls."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from api.framework.rate import Rate
from shared.errors import RateLimitError

log = structlog.get_logger()

SHARE_INTERVAL_SECONDS = 0.1
LOG_INTERVAL_SECONDS = 1.0
LOGGED_KEYS_MAX = 3
BUCKETS_BEFORE_PRUNING = 10_000
# Requests without a valid key, in total, in one process.
UNAUTHENTICATED_PER_MINUTE = 6_000
# The most that a bucket can lack, in windows: whatever the clock of Redis does, it is full again
# after that time. More than one, so that concurrent processes pay back what they over-admitted.
MISSING_WINDOWS_MAX = 2

# Charges buckets by the clock of Redis and returns what each lacks.
# KEYS: buckets. ARGV: the most that one can lack, then the charge of each, in microseconds.
_SHARE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local missing = {}
for i, bucket in ipairs(KEYS) do
  local full_at = tonumber(redis.call('GET', bucket) or now)
  missing[i] = math.min(math.max(full_at - now, 0) + ARGV[i + 1], tonumber(ARGV[1]))
  redis.call('SET', bucket, string.format('%.0f', now + missing[i]),
    'PX', math.ceil(missing[i] / 1000) + 1000)
end
return missing
"""


class Limiter:
    """Decides locally, and shares the admitted units through Redis ten times a second.

    No request waits for Redis. Concurrent processes admit at most a tenth of a second's requests
    too many, and pay them back. While Redis is unavailable, each process counts for itself. Time is
    the process's monotonic clock, and between processes the clock of Redis. `requests_per_minute` 0
    disables the limit.
    """

    def __init__(
        self,
        redis: Redis,
        requests_per_minute: int,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._share_script = redis.register_script(_SHARE)
        self._rate = Rate(requests_per_minute) if requests_per_minute else None
        self._clock = clock
        self._full_at: dict[UUID, float] = {}
        self._unshared: Counter[UUID] = Counter()  # units
        self._sharing: asyncio.Task[None] | None = None
        self._unauthenticated_rate = Rate(UNAUTHENTICATED_PER_MINUTE)
        self._unauthenticated_full_at = 0.0
        self._refusals = _Refusals()

    def take(self, key_id: UUID, units: int = 1) -> None:
        """Admit a request of so many units; raise RateLimitError with the time to wait."""
        rate = self._rate
        if rate is None:
            return
        missing = self._missing_seconds(key_id)
        if wait := rate.wait_seconds(units, missing_seconds=missing):
            self._refusals.count(str(key_id))
            raise RateLimitError(
                f"This key may send {rate.units_per_minute} requests a minute; a large one counts"
                f" as several. Try again in {wait} s.",
                retry_after_seconds=wait,
            )
        self.charge(key_id, units)

    def charge(self, key_id: UUID, units: int) -> None:
        """Take units for an admitted request, even if the bucket does not hold them."""
        rate = self._rate
        if rate is None or units <= 0:
            return
        missing = self._missing_seconds(key_id) + rate.cost_seconds(units)
        self._lack(key_id, missing)
        self._unshared[key_id] += min(units, rate.capacity_units)
        if self._sharing is None:
            self._sharing = asyncio.create_task(self._share())

    def take_unauthenticated(self) -> None:
        """Admit a request without a valid key; raise RateLimitError if there are too many."""
        now = self._clock()
        rate = self._unauthenticated_rate
        missing = max(self._unauthenticated_full_at - now, 0)
        if wait := rate.wait_seconds(1, missing_seconds=missing):
            self._refusals.count("unknown")
            raise RateLimitError(
                "Too many requests without a valid API key.", retry_after_seconds=wait
            )
        self._unauthenticated_full_at = now + missing + rate.unit_seconds

    def headers(self, key_id: UUID) -> Mapping[str, str]:
        """Return the rate limit headers of a key. Source: draft-ietf-httpapi-ratelimit-headers-10.

        `q` units in a window of `w` seconds; `r` remain, and the bucket is full after `t` seconds.
        The RateLimit-* headers of the drafts before the 8th, which most clients read, say the same.
        """
        rate = self._rate
        if rate is None:
            return {}
        missing = self._missing_seconds(key_id)
        limit, left = rate.capacity_units, rate.available_units(missing_seconds=missing)
        reset = math.ceil(missing)
        return {
            "RateLimit-Policy": f'"key";q={limit};w={math.ceil(rate.window_seconds)}',
            "RateLimit": f'"key";r={left};t={reset}',
            "RateLimit-Limit": str(limit),
            "RateLimit-Remaining": str(left),
            "RateLimit-Reset": str(reset),
        }

    async def close(self) -> None:
        """Share the remaining units."""
        self._refusals.close()
        if self._sharing is not None:
            await self._sharing

    def _missing_seconds(self, key_id: UUID) -> float:
        return max(self._full_at.get(key_id, 0.0) - self._clock(), 0.0)

    def _lack(self, key_id: UUID, seconds: float) -> None:
        assert self._rate is not None  # noqa: S101 - units are counted only with a rate
        bounded = min(seconds, MISSING_WINDOWS_MAX * self._rate.window_seconds)
        self._full_at[key_id] = self._clock() + bounded

    async def _share(self) -> None:
        try:
            while self._unshared:
                await asyncio.sleep(SHARE_INTERVAL_SECONDS)
                await self._share_once()
                self._prune()
        finally:
            self._sharing = None

    async def _share_once(self) -> None:
        rate = self._rate
        assert rate is not None  # noqa: S101 - units are counted only with a rate
        units = dict(self._unshared)
        self._unshared.clear()
        most = MISSING_WINDOWS_MAX * rate.window_seconds
        seconds = [most, *(count * rate.unit_seconds for count in units.values())]
        try:
            missing = await self._share_script(
                keys=[f"prepaid:bucket:{key_id}" for key_id in units],
                args=[round(value * 1e6) for value in seconds],
            )
        except (RedisError, OSError, TimeoutError) as error:
            log.debug("limits.redis_unavailable", error=repr(error))
            return
        for key_id, missing_us in zip(units, missing, strict=True):
            since = self._unshared.get(key_id, 0) * rate.unit_seconds
            self._lack(key_id, max(missing_us / 1e6 + since, self._missing_seconds(key_id)))

    def _prune(self) -> None:
        if len(self._full_at) > BUCKETS_BEFORE_PRUNING:
            now = self._clock()
            for key_id in [k for k, full_at in self._full_at.items() if full_at <= now]:
                del self._full_at[key_id]


class _Refusals:
    """Logs at most one line a second about refused requests: their number and the top keys."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    def count(self, key: str) -> None:
        """Count a refusal; the first is logged at once."""
        self._counts[key] += 1
        if self._timer is None:
            self._write()

    def close(self) -> None:
        """Log the remaining refusals."""
        if self._timer is not None:
            self._write()
        if self._timer is not None:
            self._timer.cancel()

    def _write(self) -> None:
        self._timer = None
        if not self._counts:
            return
        log.info(
            "http.rate_limited",
            refused=self._counts.total(),
            keys=dict(self._counts.most_common(LOGGED_KEYS_MAX)),
        )
        self._counts.clear()
        self._timer = asyncio.get_running_loop().call_later(LOG_INTERVAL_SECONDS, self._write)
