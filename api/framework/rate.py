"""A token bucket by the generic cell rate algorithm (GCRA): one timestamp for each bucket.

The timestamp is when the bucket will be full again. Taking units advances it; the bucket refills
continuously. Source: ITU-T I.371, Annex A; https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm
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
    """The refill rate and the capacity of a bucket: 10 s of units, or up to a minute's if few."""

    units_per_minute: int

    @cached_property
    def unit_seconds(self) -> float:
        """The time to refill one unit."""
        return 60 / self.units_per_minute

    @cached_property
    def capacity_units(self) -> int:
        """The units of a full bucket."""
        smallest = min(self.units_per_minute, CAPACITY_UNITS_MIN)
        return max(self.units_per_minute * CAPACITY_SECONDS // 60, smallest)

    @cached_property
    def window_seconds(self) -> float:
        """The time to refill an empty bucket."""
        return self.capacity_units * self.unit_seconds

    def cost_seconds(self, units: int) -> float:
        """Return the cost of a request, at most the capacity of the bucket."""
        return min(units, self.capacity_units) * self.unit_seconds

    def wait_seconds(self, units: int, *, missing_seconds: float) -> int:
        """Return the whole seconds until the units are available; 0 if they are now.

        `missing_seconds` is the time until the bucket is full.
        """
        excess = missing_seconds + self.cost_seconds(units) - self.window_seconds
        return math.ceil(excess) if excess > _ROUNDING_SECONDS else 0

    def available_units(self, *, missing_seconds: float) -> int:
        """Return the units that are available now."""
        left = self.window_seconds - missing_seconds + _ROUNDING_SECONDS
        return max(int(left / self.unit_seconds), 0)
