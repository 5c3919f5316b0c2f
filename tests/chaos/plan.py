"""The schedule of a chaos run: which fault befalls what, when and for how long. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import cycle
from random import Random

# The first fault waits for traffic; the last ends before the traffic does.
CALM_SECONDS = 1.0
GAP_SECONDS = (0.4, 1.6)
SECONDS = (0.5, 3.0)
# Longer than a worker's lease, so that another takes its work meanwhile.
FROZEN_SECONDS = (0.5, 9.0)
# After its end a fault's target is left alone, so that its recovery can be measured.
RECOVERY_SECONDS = 3.0
CLOCK_STEP_SECONDS = (-600, -45, -2, 2, 45, 600)

WEBS = ("web-0", "web-1")
WORKERS = ("worker-0", "worker-1")
PROCESSES = WEBS + WORKERS
POSTGRES = "postgres"
VALKEY = "valkey"
STRIPE = "stripe"
SERVERS = (POSTGRES, VALKEY, STRIPE)
ACCOUNT = "account"
# What a link of the TCP proxies is named by: `web-0>postgres`. The workers share the one to the app
# that receives messages, since its address stands in the database.
APP_LINK = "workers>app"
LINKS = (*(f"{process}>{server}" for process in PROCESSES for server in SERVERS), APP_LINK)


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


TARGETS: dict[FaultKind, tuple[str, ...]] = {
    FaultKind.KILL: (*PROCESSES, *SERVERS),
    FaultKind.FREEZE: (*PROCESSES, *SERVERS),
    FaultKind.STOP_IMMEDIATELY: (POSTGRES,),
    FaultKind.END_BACKENDS: (POSTGRES,),
    FaultKind.FLUSH: (VALKEY,),
    FaultKind.PAUSE: (VALKEY,),
    FaultKind.LOCK: (ACCOUNT,),
    FaultKind.CUT: LINKS,
    FaultKind.SLOW: LINKS,
    FaultKind.BLACK_HOLE: LINKS,
    FaultKind.FILL_DISK: (POSTGRES,),
    FaultKind.STEP_CLOCK: (WEBS[0],),
    FaultKind.REFUSE_KEY: (STRIPE,),
}
# How often a kind comes in a round; the others come once.
TIMES = {
    FaultKind.KILL: 7,
    FaultKind.FREEZE: 7,
    FaultKind.END_BACKENDS: 2,
    FaultKind.LOCK: 2,
    FaultKind.CUT: 4,
    FaultKind.SLOW: 4,
    FaultKind.BLACK_HOLE: 4,
    FaultKind.STEP_CLOCK: 2,
}
# Faults that last: the others are over as soon as they have happened.
_AT_ONCE = frozenset({FaultKind.END_BACKENDS, FaultKind.FLUSH, FaultKind.CUT})


def make_plan(seed: int, seconds: float, kinds: frozenset[FaultKind]) -> list[Fault]:
    """Return the faults of a run, oldest first: the same for the same arguments.

    Every kind comes in every round, and befalls each of its targets before any of them again. A
    target bears one fault at a time.
    """
    random = Random(f"chaos/{seed}")  # noqa: S311 - a seed
    rounds = _rounds(random, kinds)
    deck: list[tuple[FaultKind, str]] = []
    free_at: dict[str, float] = {}
    faults: list[Fault] = []
    at = CALM_SECONDS
    while at < seconds - SECONDS[1]:
        place = _first_free(deck, free_at, at)
        if place is None:
            deck += next(rounds)
            place = _first_free(deck, free_at, at)
        if place is not None:
            kind, target = deck.pop(place)
            fault = _fault(random, kind, target, at=at, ends_by=seconds)
            faults.append(fault)
            free_at[_blocks(target)] = fault.ends + RECOVERY_SECONDS
        at += random.uniform(*GAP_SECONDS)
    return faults


def _first_free(
    deck: list[tuple[FaultKind, str]], free_at: dict[str, float], at: float
) -> int | None:
    """Return the place of the first fault whose target bears none at this time."""
    return next((n for n, (_, t) in enumerate(deck) if free_at.get(_blocks(t), 0) <= at), None)


def _rounds(random: Random, kinds: frozenset[FaultKind]) -> Iterator[list[tuple[FaultKind, str]]]:
    """Yield what each round consists of, shuffled."""
    turns = {}
    for kind in sorted(kinds):
        targets = list(TARGETS[kind])
        random.shuffle(targets)
        turns[kind] = cycle(targets)
    while True:
        deck = [
            (kind, next(turn)) for kind, turn in turns.items() for _ in range(TIMES.get(kind, 1))
        ]
        random.shuffle(deck)
        yield deck


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
