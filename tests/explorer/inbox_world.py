"""Stripe's deliveries, the web process, two workers and an operator around the inbox.

Two events are about one payment, as Stripe may create them; the third names only a customer that
no organization has yet, and so needs Stripe's answer, and then waits until the customer is bound.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from shared.inbox.model import EventState, Lane
from shared.ledger import keys
from tests.explorer.inbox_programs import ANSWERED, BIND, NOT_ANSWERED, InboxPrograms
from tests.explorer.inbox_statements import inbox_statements
from tests.explorer.inbox_tables import OPEN, PAYMENTS, InboxTables
from tests.explorer.recharge_tables import BEGINNING
from tests.explorer.search import ALL_END, Move
from tests.explorer.stepping import Position, Runner, Step

WORKERS = ("worker 1", "worker 2")
NEVER_LOST = "an event that Stripe got a 200 for is stored"
ONCE = "each payment is credited at most once"
TOGETHER = "an event's effects and its outcome commit together"
NONE_WAITS = "no event waits for a customer that is bound"
SENTENCES = (
    NEVER_LOST, ONCE, TOGETHER, NONE_WAITS, "only the holder of a lease writes",
    "every open event is due again", "nothing fails unexpectedly", ALL_END,
)  # fmt: skip


class InboxBudget(NamedTuple):
    """How often something may still happen. `faults` counts the four kinds after it together."""

    faults: int = 2
    kills: int = 2
    lease_ends: int = 2
    failures: int = 2
    no_answers: int = 2
    duplicates: int = 1
    replays: int = 1
    binds: int = 1

    def less(self, *names: str) -> InboxBudget:
        left = self._replace(**{name: getattr(self, name) - 1 for name in names})
        return left.bounded()

    def bounded(self) -> InboxBudget:
        kinds = ("kills", "lease_ends", "failures", "no_answers")
        return self._replace(**{kind: min(getattr(self, kind), self.faults) for kind in kinds})

    def allows(self, kind: str) -> bool:
        return self.faults > 0 and getattr(self, kind) > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxScenario:
    """Which events Stripe delivers, and what may go wrong."""

    name: str
    events: tuple[str, ...]
    budget: InboxBudget
    removed: frozenset[str] = frozenset()
    patched: Any = nullcontext


class InboxState(NamedTuple):
    """One state of the whole system. `acknowledged`: the events that Stripe got a 200 for."""

    tables: InboxTables
    processes: tuple[Position | None, Position | None]
    acknowledged: frozenset[str]
    budget: InboxBudget


class InboxWorld:
    """The moves and invariants of the inbox."""

    def __init__(self, scenario: InboxScenario) -> None:
        self.scenario = scenario
        self.programs = InboxPrograms()
        self.runner: Runner[Any] = Runner(
            inbox_statements(), self.programs.start, removed=scenario.removed
        )
        self._same: dict[Any, Any] = {}

    def running(self) -> AbstractContextManager[None]:
        """Return a context in which the product runs without logs."""
        return self.programs.running()

    def close(self) -> None:
        self.runner.close()

    def forget(self) -> None:
        """Forget the steps that were made, so that they are executed again."""
        self.runner.forget()

    @property
    def invariants(self) -> tuple[str, ...]:
        return SENTENCES

    def start(self) -> Iterable[InboxState]:
        budget = self.scenario.budget.bounded()
        yield InboxState(InboxTables(), (None, None), frozenset(), budget)

    def moves(self, state: InboxState) -> Iterator[Move[InboxState]]:
        yield from map(self._in_order, self.unordered_moves(state))

    def unordered_moves(self, state: InboxState) -> Iterator[Move[InboxState]]:
        """Yield the moves with each worker under its own name."""
        if state.tables.flaws:
            return
        yield from self._deliveries(state)
        for place in range(len(WORKERS)):
            yield from self._worker(state, place)
        yield from self._people(state)

    def calm(self, state: InboxState) -> Move[InboxState] | None:
        """Return the next move if nothing goes wrong, and Stripe delivers all of its events."""
        if state.tables.flaws:
            return None
        for place, position in enumerate(state.processes):
            if position is not None:
                return self._in_order(next(self._steps(state, place)))
        left = [e for e in self.scenario.events if e not in state.acknowledged]
        if left:
            return self._in_order(self._received(state, left[0]))
        drained = next(self._drains(state, 0), None)
        return None if drained is None else self._in_order(drained)

    def broken(self, state: InboxState) -> str | None:
        if state.tables.flaws:
            return state.tables.flaws[0]
        checks = (
            (NEVER_LOST, _never_lost),
            (ONCE, _credited_once),
            (TOGETHER, _commit_together),
            (NONE_WAITS, _none_waits),
        )
        return next((sentence for sentence, holds in checks if not holds(state)), None)

    # What Stripe, the workers and people do.

    def _deliveries(self, state: InboxState) -> Iterator[Move[InboxState]]:
        for event_id in self.scenario.events:
            if event_id not in state.acknowledged:
                yield self._received(state, event_id)
                if state.budget.allows("kills"):
                    lost = self._stored(state, event_id)
                    yield Move(
                        f"web: commits {event_id}, and dies before it answers",
                        lost._replace(budget=state.budget.less("kills", "faults")),
                    )
            elif state.budget.duplicates:
                again = self._stored(state, event_id)
                yield Move(
                    f"web: receives {event_id} again",
                    again._replace(budget=state.budget.less("duplicates")),
                )

    def _received(self, state: InboxState, event_id: str) -> Move[InboxState]:
        after = self._stored(state, event_id)
        known = after._replace(acknowledged=state.acknowledged | {event_id})
        return Move(f"web: commits {event_id} and answers 200", known)

    def _stored(self, state: InboxState, event_id: str) -> InboxState:
        position = Position(("receive", event_id), (), None)
        step = self.runner.step(position, "web", state.tables, now=BEGINNING)
        return state._replace(tables=step.tables)

    def _worker(self, state: InboxState, place: int) -> Iterator[Move[InboxState]]:
        position, name = state.processes[place], WORKERS[place]
        if position is None:
            if None not in state.processes[:place]:
                yield from self._drains(state, place)
            return
        yield from self._steps(state, place)
        leased = [e for e in state.tables.events if e.lease == name and not e.lease_over]
        over = state.tables
        for event in leased:
            over = over.with_event(replace(event, lease_over=True))
        if state.budget.allows("kills"):
            dead = state._replace(tables=over, budget=state.budget.less("kills", "faults"))
            yield Move(f"{name}: is killed", _with_process(dead, place, None))
        if leased and state.budget.allows("lease_ends"):
            less = state.budget.less("lease_ends", "faults")
            yield Move(
                f"{name}: freezes until its leases end", state._replace(tables=over, budget=less)
            )

    def _drains(self, state: InboxState, place: int) -> Iterator[Move[InboxState]]:
        for lane in Lane:
            if any(event.can_be_leased and event.lane is lane for event in state.tables.events):
                begun = _with_process(state, place, Position(("drain", lane), (), None))
                move = next(self._steps(begun, place))
                yield Move(f"{move.words} of the lane {lane}", move.after, move.swaps)

    def _steps(self, state: InboxState, place: int) -> Iterator[Move[InboxState]]:
        """Yield the next step of a process; a worker's transaction may also fail."""
        position, name = state.processes[place], WORKERS[place]
        assert position is not None
        if position.call is not None:
            answered = self.runner.answer(position, name, ANSWERED, now=BEGINNING)
            yield Move(f"{name}: Stripe answers", self._after(state, place, answered))
            if state.budget.allows("no_answers"):
                failed = self.runner.answer(position, name, NOT_ANSWERED, now=BEGINNING)
                less = state._replace(budget=state.budget.less("no_answers", "faults"))
                yield Move(f"{name}: Stripe does not answer", self._after(less, place, failed))
            return
        step = self.runner.step(position, name, state.tables, now=BEGINNING)
        after = self._after(state._replace(tables=step.tables), place, step)
        yield Move(f"{name}: {_words(step)}", after)
        if "credit" in step.statements and state.budget.allows("failures"):
            failed = self.runner.step(position, name, state.tables, now=BEGINNING, fails="credit")
            less = state._replace(
                tables=failed.tables, budget=state.budget.less("failures", "faults")
            )
            yield Move(f"{name}: a statement fails, rollback", self._after(less, place, failed))

    def _people(self, state: InboxState) -> Iterator[Move[InboxState]]:
        if state.budget.binds and state.tables.customer is None:
            step = self.runner.step(Position(BIND, (), None), "web", state.tables, now=BEGINNING)
            bound = state._replace(tables=step.tables, budget=state.budget.less("binds"))
            yield Move("web: binds the customer to its organization", bound)
        idle = [place for place, position in enumerate(state.processes) if position is None]
        if state.budget.replays and idle:
            for event in state.tables.events:
                if event.state in OPEN:
                    continue
                program = Position(("replay", event.id), (), None)
                begun = _with_process(state, idle[0], program)
                move = next(self._steps(begun, idle[0]))
                yield Move(
                    f"{WORKERS[idle[0]]}: replays {event.id}, as a person requested",
                    move.after._replace(budget=state.budget.less("replays")),
                    move.swaps,
                )

    def _after(self, state: InboxState, place: int, step: Step[Any]) -> InboxState:
        """Return the state after a step; an unexpected error is a flaw, a lost lease is not."""
        after = _with_process(state, place, step.position)
        if step.error is not None and not step.error.startswith("LeaseLostError"):
            self.programs.unexpected.append(step.error)
        if self.programs.unexpected:
            flaw = f"nothing fails unexpectedly ({self.programs.unexpected.pop()})"
            after = after._replace(tables=replace(after.tables, flaws=(flaw,)))
        if step.position is None:
            after = after._replace(tables=_left(after.tables, WORKERS[place]))
        return after

    def _in_order(self, move: Move[InboxState]) -> Move[InboxState]:
        """Order the two workers: they differ by their names alone, so that one order is enough."""
        state = move.after
        first, second = map(self._intern, state.processes)
        tables, swaps = state.tables, _rank(first) < _rank(second)
        if swaps:
            first, second = second, first
            swapped = {WORKERS[0]: WORKERS[1], WORKERS[1]: WORKERS[0]}
            for event in tables.events:
                if event.lease in swapped:
                    tables = tables.with_event(replace(event, lease=swapped[event.lease]))
        after = InboxState(
            self._intern(tables), (first, second), self._intern(state.acknowledged), state.budget
        )
        return Move(move.words, after, swaps != move.swaps)

    def _intern(self, value: Any) -> Any:
        return self._same.setdefault(value, value)


def _never_lost(state: InboxState) -> bool:
    return state.acknowledged <= {event.id for event in state.tables.events}


def _credited_once(state: InboxState) -> bool:
    credited = Counter(key for key, _ in state.tables.ledger)
    return all(count == 1 for count in credited.values())


def _commit_together(state: InboxState) -> bool:
    """Compare the payments of events that were applied with those that are credited."""
    applied = {PAYMENTS[event.id] for event in state.tables.events if event.was_applied}
    credited = {key for key, _ in state.tables.ledger}
    return {f"{keys.PAYMENT}{payment}" for payment in applied} == credited


def _none_waits(state: InboxState) -> bool:
    customer = state.tables.customer
    return customer is None or not any(
        event.state is EventState.IGNORED and event.waits_for == customer
        for event in state.tables.events
    )


def _left(tables: InboxTables, name: str) -> InboxTables:
    """Return the rows after a worker has gone on: the leases that it left end at some time."""
    for event in tables.events:
        if event.lease == name:
            tables = tables.with_event(replace(event, lease_over=True))
    return tables


def _with_process(state: InboxState, place: int, position: Position | None) -> InboxState:
    first, second = state.processes
    return state._replace(processes=(position, second) if place == 0 else (first, position))


def _rank(position: Position | None) -> tuple[int, int]:
    return (0, 0) if position is None else (len(position.log) + 1, hash(position))


def _words(step: Step[Any]) -> str:
    if "claim" in step.statements or "claim_for_replay" in step.statements:
        return "leases what is due"
    if "finish" in step.statements:
        states = ", ".join(f"{event.id} {event.state}" for event in step.tables.events)
        return f"commits effects and outcomes ({states})"
    if "release" in step.statements:
        return "releases what needs Stripe"
    if "claims" in step.statements:
        return "reads that only Stripe knows whose payment it is"
    return ", ".join(step.statements) or "commits nothing"
