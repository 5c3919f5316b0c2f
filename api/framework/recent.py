"""A bounded memory of what was looked up a moment ago."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Remembers values for some seconds; what is older is looked up again, once for all who ask.

    The oldest are forgotten first where there are too many.
    """

    def __init__(
        self,
        seconds: float,
        *,
        entries_max: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._entries_max = entries_max
        self._clock = clock
        self._entries: dict[K, tuple[float, V]] = {}
        self._under_way: dict[K, asyncio.Task[V | None]] = {}

    async def find(self, key: K, look_up: Callable[[K], Awaitable[V | None]]) -> V | None:
        """Return what is remembered, else look it up; what is not there is not remembered.

        Those who ask for the same key meanwhile share the look-up, and what it raises. A caller
        that goes away does not end it for the others.
        """
        found = self.get(key)
        if found is not None:
            return found
        under_way = self._under_way.get(key)
        if under_way is None:
            under_way = asyncio.create_task(self._look_up(key, look_up))
            self._under_way[key] = under_way
        return await asyncio.shield(under_way)

    def get(self, key: K) -> V | None:
        """Return what is remembered, if it is recent."""
        entry = self._entries.get(key)
        return entry[1] if entry is not None and entry[0] > self._clock() else None

    def put(self, key: K, value: V) -> None:
        """Remember a value from now on."""
        self._entries.pop(key, None)
        if len(self._entries) >= self._entries_max:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = (self._clock() + self._seconds, value)

    def forget(self, key: K) -> None:
        """Look it up again next time; a look-up under way may have read what was before."""
        self._entries.pop(key, None)
        self._under_way.pop(key, None)

    async def _look_up(self, key: K, look_up: Callable[[K], Awaitable[V | None]]) -> V | None:
        this = asyncio.current_task()
        try:
            value = await look_up(key)
            if value is not None and self._under_way.get(key) is this:
                self.put(key, value)
            return value
        finally:
            if self._under_way.get(key) is this:
                del self._under_way[key]
