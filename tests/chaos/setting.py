"""What a chaos run is started with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.chaos.machine import Machine

# A frozen worker outlasts it (FROZEN_SECONDS), and a short run sees many of them end.
LEASE_SECONDS = 3


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a run is, how long, and by which seed. `lease_seconds` is PREPAID_LEASE_SECONDS."""

    folder: Path
    machine: Machine
    seed: int
    seconds: float
    lease_seconds: int = LEASE_SECONDS
