"""Rate limits: a token bucket for each key, over all processes together, and one for strangers."""

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
# Requests whose key nobody gave out, all together, of one process.
STRANGERS_PER_MINUTE = 6_000
# What a bucket can lack, in windows: whatever the clock of Redis does, it is full again after so
# many. More than one, so that what processes let in side by side is paid back.
MISSING_WINDOWS_MAX = 2

# Adds what one process has let in, by the clock of Redis; returns what each bucket lacks.
# KEYS: buckets. ARGV: the most that one can lack, then what each is to be charged: microseconds.
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
    """Decides here, and shares what was let in through Redis ten times a second.

    A request waits for no server. Processes that run beside each other let in at most a tenth of a
    second's requests too many, and pay them back. While Redis is away each process counts for
    itself. Time is each process's own monotonic clock, and between processes that of Redis: no
    other clock counts. `requests_per_minute` 0 is no limit.
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
        self._strangers_rate = Rate(STRANGERS_PER_MINUTE)
        self._strangers_full_at = 0.0
        self._refusals = _Refusals()

    def take(self, key_id: UUID, units: int = 1) -> None:
        """Let a request in that costs so much; raise RateLimitError, saying when to try again."""
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
        """Take units for what has been let in already, also where the bucket does not hold them."""
        rate = self._rate
        if rate is None or units <= 0:
            return
        missing = self._missing_seconds(key_id) + rate.cost_seconds(units)
        self._lack(key_id, missing)
        self._unshared[key_id] += min(units, rate.capacity_units)
        if self._sharing is None:
            self._sharing = asyncio.create_task(self._share())

    def take_for_stranger(self) -> None:
        """Count a request without a key that is known; raise RateLimitError where they are many."""
        now = self._clock()
        rate = self._strangers_rate
        missing = max(self._strangers_full_at - now, 0)
        if wait := rate.wait_seconds(1, missing_seconds=missing):
            self._refusals.count("unknown")
            raise RateLimitError(
                "Too many requests come without a valid API key.", retry_after_seconds=wait
            )
        self._strangers_full_at = now + missing + rate.unit_seconds

    def headers(self, key_id: UUID) -> Mapping[str, str]:
        """Return how a key stands, as draft-ietf-httpapi-ratelimit-headers-10 has it.

        `q` units in a window of `w` seconds; `r` are left, and all are back after `t` seconds. The
        same once more in the headers of the drafts before the 8th, which most clients read.
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
        """Share what is counted, for the last time."""
        self._refusals.close()
        if self._sharing is not None:
            await self._sharing

    def _missing_seconds(self, key_id: UUID) -> float:
        return max(self._full_at.get(key_id, 0.0) - self._clock(), 0.0)

    def _lack(self, key_id: UUID, seconds: float) -> None:
        assert self._rate is not None  # noqa: S101 - without a rate nothing is counted
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
        assert rate is not None  # noqa: S101 - without a rate nothing is counted
        units = dict(self._unshared)
        self._unshared.clear()
        most = MISSING_WINDOWS_MAX * rate.window_seconds
        seconds = [most, *(count * rate.unit_seconds for count in units.values())]
        try:
            missing = await self._share_script(
                keys=[f"prepaid:bucket:{key_id}" for key_id in units],
                args=[round(found * 1e6) for found in seconds],
            )
        except (RedisError, OSError, TimeoutError) as error:
            log.debug("limits.redis_unavailable", error=repr(error))
            return
        for key_id, found in zip(units, missing, strict=True):
            since = self._unshared.get(key_id, 0) * rate.unit_seconds
            self._lack(key_id, max(found / 1e6 + since, self._missing_seconds(key_id)))

    def _prune(self) -> None:
        if len(self._full_at) > BUCKETS_BEFORE_PRUNING:
            now = self._clock()
            for key_id in [k for k, full_at in self._full_at.items() if full_at <= now]:
                del self._full_at[key_id]


class _Refusals:
    """Writes at most one line a second about refused requests: how many, and whose the most."""

    def __init__(self) -> None:
        self._of: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    def count(self, whose: str) -> None:
        """Count a refusal; the first is written at once."""
        self._of[whose] += 1
        if self._timer is None:
            self._write()

    def close(self) -> None:
        """Write what is left."""
        if self._timer is not None:
            self._write()
        if self._timer is not None:
            self._timer.cancel()

    def _write(self) -> None:
        self._timer = None
        if not self._of:
            return
        log.info(
            "http.rate_limited",
            refused=self._of.total(),
            keys=dict(self._of.most_common(LOGGED_KEYS_MAX)),
        )
        self._of.clear()
        self._timer = asyncio.get_running_loop().call_later(LOG_INTERVAL_SECONDS, self._write)
