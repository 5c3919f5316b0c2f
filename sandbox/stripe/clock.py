"""The simulator's clock: real time plus an offset that tests may advance and that is remembered."""

import time
from collections.abc import Callable

from sandbox.stripe.store import Store

OFFSET = "clock_offset_seconds"


class Clock:
    """Never goes back; `advance` moves everything that waits for a moment."""

    def __init__(self, store: Store, wall: Callable[[], float] = time.time) -> None:
        self._store = store
        self._wall = wall
        self._offset = float(store.setting(OFFSET) or 0.0)

    def now(self) -> float:
        """Seconds since 1970 on the simulator's clock."""
        return self._wall() + self._offset

    def wall(self) -> float:
        """Seconds since 1970 in the real world, which is what receivers of webhooks go by."""
        return self._wall()

    def advance(self, seconds: float) -> float:
        """Move the clock forward and return the new time."""
        self._offset += max(0.0, seconds)
        self._store.set(OFFSET, repr(self._offset))
        return self.now()
