"""A bounded memory of what was looked up a moment ago."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Remembers values for some seconds; what is older is looked up again.

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
        """Look it up again next time."""
        self._entries.pop(key, None)
