"""What a chaos run is started with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.chaos.machine import Machine
from worker.drainer import LEASE_SECONDS


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a run is, how long, and by which seed.

    `lease_seconds` is PREPAID_LEASE_SECONDS. A frozen worker outlasts the default (FROZEN_SECONDS).
    """

    folder: Path
    machine: Machine
    seed: int
    seconds: float
    lease_seconds: int = LEASE_SECONDS
