"""The schedule of a chaos run: which fault befalls what, when and for how long. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random

# The first fault waits for traffic; the last ends before the traffic does.
CALM_SECONDS = 1.0
GAP_SECONDS = (0.4, 1.6)
SECONDS = (0.5, 3.0)
# Longer than a worker's lease (LEASE_SECONDS), so that another takes its work meanwhile.
FROZEN_SECONDS = (0.5, 6.0)
# After its end a fault's target is left alone, so that its recovery can be measured.
RECOVERY_SECONDS = 3.0
CLOCK_STEP_SECONDS = (-600, -45, -2, 2, 45, 600)

WEBS = ("web-0", "web-1")
WORKERS = ("worker-0", "worker-1")
PROCESSES = WEBS + WORKERS
POSTGRES = "postgres"
VALKEY = "valkey"
STRIPE = "stripe"
ACCOUNT = "account"
# What a link of the TCP proxies is named by: `web-0>postgres`.
LINKS = tuple(f"{process}>{server}" for process in PROCESSES for server in (POSTGRES, VALKEY))


class FaultKind(StrEnum):
    """What goes wrong."""

    KILL = "kill -9"
    FREEZE = "SIGSTOP"
    STOP_IMMEDIATELY = "immediate stop"
    END_BACKENDS = "backends ended"
    FLUSH = "FLUSHALL"
    PAUSE = "CLIENT PAUSE"
    LOCK = "row locked"
    CUT = "connections cut"
    SLOW = "connections slowed"
    BLACK_HOLE = "connections silent"
    FILL_DISK = "disk full"
    STEP_CLOCK = "clock stepped"
    REFUSE_KEY = "key refused"


# Every run needs these of the machine; the others are left out where it lacks them.
NEEDS_A_MACHINE = frozenset({FaultKind.FILL_DISK, FaultKind.STEP_CLOCK})


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: it begins at `at` seconds of the run, and ends `seconds` later.

    `step` is how far a clock is moved, in seconds.
    """

    at: float
    seconds: float
    kind: FaultKind
    target: str
    step: int = 0

    @property
    def ends(self) -> float:
        """When it is over."""
        return self.at + self.seconds


_TARGETS: dict[FaultKind, tuple[str, ...]] = {
    FaultKind.KILL: (*PROCESSES, VALKEY),
    FaultKind.FREEZE: (*PROCESSES, POSTGRES, VALKEY, STRIPE),
    FaultKind.STOP_IMMEDIATELY: (POSTGRES,),
    FaultKind.END_BACKENDS: (POSTGRES, POSTGRES),
    FaultKind.FLUSH: (VALKEY,),
    FaultKind.PAUSE: (VALKEY,),
    FaultKind.LOCK: (ACCOUNT, ACCOUNT),
    FaultKind.CUT: LINKS[::2],
    FaultKind.SLOW: LINKS[1::4],
    FaultKind.BLACK_HOLE: LINKS[::3],
    FaultKind.FILL_DISK: (POSTGRES,),
    FaultKind.STEP_CLOCK: (WEBS[0], WEBS[0]),
    FaultKind.REFUSE_KEY: (STRIPE,),
}
# Faults that last: the others are over as soon as they have happened.
_AT_ONCE = frozenset({FaultKind.END_BACKENDS, FaultKind.FLUSH, FaultKind.CUT})


def make_plan(seed: int, seconds: float, kinds: frozenset[FaultKind]) -> list[Fault]:
    """Return the faults of a run, oldest first: the same for the same arguments.

    Every fault of the deck comes once before any comes again. A target bears one fault at a time.
    """
    random = Random(f"chaos/{seed}")  # noqa: S311 - a seed
    deck: list[tuple[FaultKind, str]] = []
    free_at: dict[str, float] = {}
    faults: list[Fault] = []
    at = CALM_SECONDS
    while at < seconds - SECONDS[1]:
        if not deck:
            deck = [(kind, target) for kind in sorted(kinds) for target in _TARGETS[kind]]
            random.shuffle(deck)
        place = next((n for n, (_, t) in enumerate(deck) if free_at.get(_blocks(t), 0) <= at), None)
        if place is not None:
            kind, target = deck.pop(place)
            fault = _fault(random, kind, target, at=at, ends_by=seconds)
            faults.append(fault)
            free_at[_blocks(target)] = fault.ends + RECOVERY_SECONDS
        at += random.uniform(*GAP_SECONDS)
    return faults


def _blocks(target: str) -> str:
    """Return what can bear no second fault meanwhile: a link counts as its process."""
    return target.partition(">")[0]


def _fault(random: Random, kind: FaultKind, target: str, *, at: float, ends_by: float) -> Fault:
    if kind in _AT_ONCE:
        lasts = 0.0
    else:
        lasts = random.uniform(*(FROZEN_SECONDS if kind is FaultKind.FREEZE else SECONDS))
    step = random.choice(CLOCK_STEP_SECONDS) if kind is FaultKind.STEP_CLOCK else 0
    return Fault(round(at, 2), round(min(lasts, ends_by - at), 2), kind, target, step)
