"""How long a pass over some events may wait for locks, and how long it may take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

LOCK_SECONDS_MIN = 0.01


@dataclass(frozen=True, slots=True)
class WaitLimits:
    """Limits on the wait for one lock, on all waits of a pass, and on one statement."""

    lock_seconds: float
    lock_seconds_in_all: float
    statement_seconds: float


# For a batch that events share: it must not wait.
BRIEF = WaitLimits(lock_seconds=0.2, lock_seconds_in_all=0.8, statement_seconds=3.0)
# For events in a lane of their own. Less than PostgreSQL's `deadlock_timeout` of 1 s: if an event
# and another transaction wait for each other, the event gives up and PostgreSQL aborts neither.
LONG = WaitLimits(lock_seconds=0.8, lock_seconds_in_all=3.0, statement_seconds=10.0)


class Patience:
    """The lock waits of one pass. They get shorter as they add up, down to LOCK_SECONDS_MIN.

    The clock is monotonic, so that changes of the system time do not affect it.
    """

    def __init__(
        self,
        limits: WaitLimits,
        *,
        pass_time: timedelta,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._left = limits.lock_seconds_in_all
        self._clock = clock
        self._ends_at = clock() + pass_time.total_seconds()

    @property
    def lock_milliseconds(self) -> int:
        """Return how long the next transaction may wait for a lock."""
        seconds = min(self._limits.lock_seconds, self._left)
        return int(max(seconds, LOCK_SECONDS_MIN) * 1000)

    @property
    def statement_milliseconds(self) -> int:
        """Return how long a statement may take."""
        return int(self._limits.statement_seconds * 1000)

    def spend(self) -> None:
        """Subtract a lock wait that timed out."""
        self._left -= self.lock_milliseconds / 1000

    @property
    def is_over(self) -> bool:
        """Whether the time of the pass is used up; the remaining events are released."""
        return self._clock() >= self._ends_at
