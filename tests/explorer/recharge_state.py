"""The state of the whole system, what may happen in a scenario, and how often."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from tests.explorer.recharge_tables import Tables
from tests.explorer.stepping import Position, StripeCall
from tests.explorer.stripe_model import CARD, Behaviours, Stripe

WORKERS = ("worker 1", "worker 2")
WEB = "web"
NAMES = (*WORKERS, WEB)
WORK = ("work",)
DAY, MONTH = timedelta(hours=25), timedelta(days=31)

_FAULTS = ("kills", "lease_ends", "lost_answers", "refusals")


class Budget(NamedTuple):
    """How often something may still happen. `faults` counts the four kinds after it together."""

    faults: int = 2
    kills: int = 2
    lease_ends: int = 2
    lost_answers: int = 2
    refusals: int = 1
    duplicates: int = 1
    ticks: int = 1
    authentications: int = 0
    cancels: int = 0
    cards: int = 0
    suspensions: int = 0
    refunds: int = 0
    disputes: int = 0
    uses: int = 0

    def less(self, *names: str) -> Budget:
        """Return the rest; of no kind of fault is more left than of all together."""
        left = self._replace(**{name: getattr(self, name) - 1 for name in names})
        return left.bounded()

    def bounded(self) -> Budget:
        return self._replace(**{kind: min(getattr(self, kind), self.faults) for kind in _FAULTS})

    def allows(self, kind: str) -> bool:
        """Return whether another fault of a kind may happen."""
        return self.faults > 0 and getattr(self, kind) > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What may happen, and how often. `patched` replaces rules of the product meanwhile."""

    name: str
    budget: Budget
    behaviours: Behaviours = CARD
    cap: Decimal | None = None
    top_up: bool = False
    ticks: tuple[timedelta, ...] = (DAY,)
    removed: frozenset[str] = frozenset()
    patched: Callable[[], AbstractContextManager[object]] = nullcontext


class Asked(NamedTuple):
    """Stripe's answer about a payment whose event is not applied yet; `number` orders answers."""

    intent: str
    of_dispute: bool
    refunded: bool
    disputed: bool
    number: int


class State(NamedTuple):
    """One state of the whole system. `asked`: what Stripe has answered about events."""

    tables: Tables
    stripe: Stripe
    processes: tuple[Position | None, Position | None, Position | None]
    network: tuple[StripeCall, ...]
    now: datetime
    budget: Budget
    asked: tuple[Asked, ...] = ()


def with_process(state: State, place: int, position: Position | None) -> State:
    """Return a state in which a process stands elsewhere; None: it has nothing to do."""
    processes = list(state.processes)
    processes[place] = position
    return state._replace(processes=(processes[0], processes[1], processes[2]))


def with_request(state: State, call: StripeCall) -> State:
    """Return a state in which a request whose sender does not wait for it may still arrive."""
    if call.method == "retrieve":
        return state
    network = sorted((*state.network, call), key=lambda c: (c.method, c.about, c.key or ""))
    return state._replace(network=tuple(network))


def free_tries(state: State) -> int:
    """Return a number of tries that nobody uses: the product counts up, and so never repeats."""
    return 1 + max(_tries(state), default=0)


def unused_keys(state: State) -> frozenset[str]:
    """Return the stored keys of confirmations whose number of tries nobody uses any more."""
    keys = [key for key, _ in state.stripe.answers if key.endswith(":confirm")]
    if not keys:
        return frozenset()
    used = _tries(state)
    return frozenset(key for key in keys if int(key.split(":")[2]) not in used)


def _tries(state: State) -> set[int]:
    """Return the numbers of tries that processes and requests on the way still use."""
    used: set[int] = set()
    for position in state.processes:
        if position is not None and position.log and position.program == WORK:
            rows = [row for result in position.log[0].results for row in result]
            used.update(row["tries"] for row in rows if "tries" in {*row.keys()})
    for call in state.network:
        parts = (call.key or "").split(":")
        if parts[-1] == "confirm":
            used.add(int(parts[2]))
    return used
