"""Invariants: what must always hold, and what was found when it was last checked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

# Workers check each invariant, or its next pages, every minute: after this time, none does.
CHECK_AGE_MAX = timedelta(minutes=15)

# How many violations a check counts; the first is stored as the example.
VIOLATIONS_MAX = 100


@dataclass(frozen=True, slots=True)
class Pass:
    """The pass under way of one invariant. `checked_through` is empty before its first range."""

    checked_through: str = ""
    violations: int = 0
    example: dict[str, Any] | None = None

    @property
    def ok(self) -> bool:
        """Whether the pass has found no violation so far."""
        return self.violations == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class InvariantResult:
    """The stored result of one invariant. `violations` is counted up to VIOLATIONS_MAX a range."""

    name: str
    checked_at: datetime
    ok: bool
    violations: int
    example: dict[str, Any] | None
    failing_since: datetime | None
