"""A token bucket, as the generic cell rate algorithm (GCRA) keeps it: one moment for each bucket.

The moment is when the bucket will be full again. What is taken moves it on; time alone refills the
bucket, continuously. Source: ITU-T I.371, Annex A; https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

CAPACITY_SECONDS = 10
CAPACITY_UNITS_MIN = 100
_ROUNDING_SECONDS = 1e-6


@dataclass(frozen=True)
class Rate:
    """How fast a bucket refills, and how much it holds: what 10 s bring, or a minute if few."""

    units_per_minute: int

    @cached_property
    def unit_seconds(self) -> float:
        """How long the bucket takes to refill by one unit."""
        return 60 / self.units_per_minute

    @cached_property
    def capacity_units(self) -> int:
        """How many units a full bucket holds."""
        smallest = min(self.units_per_minute, CAPACITY_UNITS_MIN)
        return max(self.units_per_minute * CAPACITY_SECONDS // 60, smallest)

    @cached_property
    def window_seconds(self) -> float:
        """How long an empty bucket takes to be full."""
        return self.capacity_units * self.unit_seconds

    def cost_seconds(self, units: int) -> float:
        """Return what a request costs; none costs more than a full bucket holds."""
        return min(units, self.capacity_units) * self.unit_seconds

    def wait_seconds(self, units: int, *, missing_seconds: float) -> int:
        """Return after how many whole seconds so many units can be taken; 0 for now.

        `missing_seconds` is how long the bucket still takes to be full.
        """
        excess = missing_seconds + self.cost_seconds(units) - self.window_seconds
        return math.ceil(excess) if excess > _ROUNDING_SECONDS else 0

    def available_units(self, *, missing_seconds: float) -> int:
        """Return how many units can be taken now."""
        left = self.window_seconds - missing_seconds + _ROUNDING_SECONDS
        return max(int(left / self.unit_seconds), 0)
