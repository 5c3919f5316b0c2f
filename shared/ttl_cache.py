"""A bounded cache whose entries expire; concurrent look-ups of one key share a single load.

Not async-lru: it caches an absent value (None) like any other, and a load that fails after its
entry was invalidated removes the newer load's entry, so that the load runs a third time. Nor can a
value be stored without a load, which the negative entries of unknown API keys need.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class TTLCache(Generic[K, V]):
    """Caches values for `ttl_seconds` after they were stored, at most `entries_max` at a time.

    Where there are too many, the entries that were stored first are evicted first.
    """

    def __init__(
        self,
        ttl_seconds: float,
        *,
        entries_max: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ttl_seconds = ttl_seconds
        self._entries_max = entries_max
        self._clock = clock
        self._entries: dict[K, tuple[float, V]] = {}
        self._loads: dict[K, asyncio.Task[V | None]] = {}

    async def get_or_load(self, key: K, load: Callable[[K], Awaitable[V | None]]) -> V | None:
        """Return the cached value, else load it; None (absent) is not cached.

        Concurrent callers of one key share the load and the exception that it raises, which is not
        cached either. A caller that is cancelled does not cancel the load for the others.
        """
        cached = self.get(key)
        if cached is not None:
            return cached
        task = self._loads.get(key)
        if task is None:
            task = asyncio.create_task(self._load(key, load))
            self._loads[key] = task
        return await asyncio.shield(task)

    def get(self, key: K) -> V | None:
        """Return the cached value, unless it has expired."""
        entry = self._entries.get(key)
        return entry[1] if entry is not None and entry[0] > self._clock() else None

    def put(self, key: K, value: V) -> None:
        """Store a value; its time to live begins now."""
        self._entries.pop(key, None)
        if len(self._entries) >= self._entries_max:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = (self._clock() + self._ttl_seconds, value)

    def invalidate(self, key: K) -> None:
        """Load the value afresh next time; a load in flight may have read the old one."""
        self._entries.pop(key, None)
        self._loads.pop(key, None)

    async def _load(self, key: K, load: Callable[[K], Awaitable[V | None]]) -> V | None:
        this = asyncio.current_task()
        try:
            value = await load(key)
            if value is not None and self._loads.get(key) is this:
                self.put(key, value)
            return value
        finally:
            if self._loads.get(key) is this:
                del self._loads[key]
