"""The health of the workers, as their heartbeats report it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BEAT_SECONDS = 5.0
# Four beats: a worker that misses them is frozen or gone.
STALE_SECONDS = 20.0
RETENTION_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat of one loop: how long it has been failing, and the class of the last error."""

    loop: str
    failing_seconds: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopHealth:
    """One loop across all workers. `age_seconds` is None where all heartbeats are in the future."""

    loop: str
    workers: int
    age_seconds: float | None
    failing: int
    error: str | None


@dataclass(frozen=True, slots=True)
class WorkersHealth:
    """All workers together."""

    workers: int
    loops: Sequence[LoopHealth]

    @property
    def missing(self) -> list[str]:
        """The loops that have run before and run in no worker now."""
        return [health.loop for health in self.loops if health.workers == 0]

    @property
    def failing(self) -> list[str]:
        """The loops that fail in a worker, with the class of the error."""
        return [f"{health.loop} ({health.error})" for health in self.loops if health.failing]

    @property
    def problem(self) -> str | None:
        """One sentence about what is wrong and how to correct it, or None."""
        if self.workers == 0:
            ages = [health.age_seconds for health in self.loops if health.age_seconds is not None]
            last = f"the last heartbeat is {min(ages):.0f} s old" if ages else "none has ever run"
            return (
                f"no worker runs ({last}): events wait, and nothing is recharged, sent or expired."
                " Start prepaid worker, or restart one that is frozen"
            )
        if self.missing:
            return f"no worker runs {', '.join(self.missing)}: restart the workers"
        if self.failing:
            return f"failing: {', '.join(self.failing)}. The log line worker.loop_failed says why"
        return None
