"""How long a pass over some events may wait for locks, and how long it may take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

LOCK_SECONDS_MIN = 0.01


@dataclass(frozen=True, slots=True)
class WaitLimits:
    """How long a transaction waits for a lock at most, all of a pass together, and a statement."""

    lock_seconds: float
    lock_seconds_in_all: float
    statement_seconds: float


# Of events that others are claimed with: these must not wait.
BRIEF = WaitLimits(lock_seconds=0.2, lock_seconds_in_all=0.8, statement_seconds=3.0)
# Of events in a lane of their own. Less than PostgreSQL's `deadlock_timeout` of 1 s: where an event
# and another transaction wait for each other, the event gives up, and the other is no victim.
LONG = WaitLimits(lock_seconds=0.8, lock_seconds_in_all=3.0, statement_seconds=10.0)


class Patience:
    """The waits of one pass. They become shorter as they add up, and never cease.

    Its clock is monotonic: a clock that is set anew changes no wait.
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
        """Count a wait for a lock that did not come."""
        self._left -= self.lock_milliseconds / 1000

    @property
    def is_over(self) -> bool:
        """Whether the pass has taken so long that the rest is left to another."""
        return self._clock() >= self._ends_at
