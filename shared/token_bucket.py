"""Token buckets: a burst, then a steady rate. Their clock is monotonic."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")


class TokenBucket:
    """Holds up to `burst` tokens, refilled at `per_second`."""

    def __init__(
        self, per_second: float, burst: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._tokens = float(burst)
        self._filled_at = clock()

    def take(self) -> float:
        """Take a token and return 0; where there is none, return the seconds until the next."""
        self._fill()
        if self._tokens >= 1:
            self._tokens -= 1
            return 0
        return (1 - self._tokens) / self._per_second

    @property
    def is_full(self) -> bool:
        """Whether it is equal to a new bucket."""
        self._fill()
        return self._tokens >= self._burst

    def _fill(self) -> None:
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._per_second)
        self._filled_at = now


class TokenBuckets(Generic[K]):
    """A bucket per key. Full buckets are evicted first when there are too many."""

    def __init__(
        self,
        per_second: float,
        burst: int,
        *,
        entries_max: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_second = per_second
        self._burst = burst
        self._entries_max = entries_max
        self._clock = clock
        self._buckets: dict[K, TokenBucket] = {}

    def take(self, key: K) -> float:
        """Take a token of this key and return 0, or return the seconds until the next."""
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= self._entries_max:
                self._evict()
            bucket = TokenBucket(self._per_second, self._burst, clock=self._clock)
            self._buckets[key] = bucket
        return bucket.take()

    def _evict(self) -> None:
        self._buckets = {key: b for key, b in self._buckets.items() if not b.is_full}
        while len(self._buckets) >= self._entries_max:
            del self._buckets[next(iter(self._buckets))]
