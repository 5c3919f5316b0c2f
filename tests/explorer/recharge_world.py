"""Two workers, a web process, Stripe, a customer and a network around one organization's recharge.

A state is what PostgreSQL, Stripe and each process have, the requests that may still arrive, the
time, and how much may still go wrong. Each process runs the product's own coroutines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from decimal import Decimal
from typing import Any

from shared.recharge.model import AttemptState
from tests.explorer import recharge_invariants as invariants
from tests.explorer.recharge_processes import Processes
from tests.explorer.recharge_reductions import reduced, without_old_keys
from tests.explorer.recharge_state import (
    MONTH,
    NAMES,
    WORKERS,
    Scenario,
    State,
)
from tests.explorer.recharge_surroundings import Surroundings
from tests.explorer.recharge_tables import BEGINNING, FIRST_CARD, Attempt, Tables
from tests.explorer.search import Move
from tests.explorer.stepping import Position, Runner
from tests.explorer.stripe_model import AMOUNT_MINOR, Stripe


class RechargeWorld:
    """The moves and invariants of a scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.processes = Processes(scenario)
        self.surroundings = Surroundings(self.processes)
        self._same: dict[Any, Any] = {}

    def running(self) -> AbstractContextManager[None]:
        """Return a context in which the product runs without logs."""
        return self.processes.programs.running()

    @property
    def runner(self) -> Runner[Tables]:
        return self.processes.runner

    def close(self) -> None:
        self.runner.close()

    def forget(self) -> None:
        """Forget the steps that were made, so that they are executed again."""
        self.processes.forget()

    @property
    def invariants(self) -> tuple[str, ...]:
        return invariants.SENTENCES

    def start(self) -> Iterable[State]:
        first, web = Attempt(number=1, created_at=BEGINNING), None
        if self.scenario.top_up:
            first = replace(
                first, trigger="top_up", state=AttemptState.CHARGING, amount=Decimal(20),
                amount_minor=AMOUNT_MINOR, charged_at=BEGINNING, method=FIRST_CARD,
            )  # fmt: skip
            web = Position(("top_up", first.id), (), None)
        tables = Tables(attempts=(first,), cap=self.scenario.cap)
        budget = self.scenario.budget.bounded()
        state = State(tables, Stripe(), (None, None, web), (), BEGINNING, budget)
        yield self._in_order(Move("", state)).after

    def broken(self, state: State) -> str | None:
        return invariants.broken(state)

    def moves(self, state: State) -> Iterator[Move[State]]:
        yield from map(self._in_order, self._moves(state))

    def unordered_moves(self, state: State) -> Iterator[Move[State]]:
        """Yield the moves with each worker under its own name."""
        for move in self._moves(state):
            yield Move(move.words, without_old_keys(move.after))

    def _moves(self, state: State) -> Iterator[Move[State]]:
        if state.tables.at_bound or state.tables.flaws:
            return
        for place in range(len(NAMES)):
            yield from self.processes.moves(state, place)
        yield from self.processes.arrivals(state)
        yield from self.surroundings.moves(state)

    def calm(self, state: State) -> Move[State] | None:
        """Return the next move of an end in which nothing goes wrong, nobody acts, time passes."""
        if state.tables.at_bound or state.tables.flaws:
            return None
        for place, position in enumerate(state.processes):
            if position is not None:
                return self._in_order(self.processes.calm(state, place))
        if state.network:
            lost = state._replace(network=())
            return self._in_order(Move("the network: what is on the way is lost", lost))
        if state.asked:
            return self._in_order(self.surroundings.applied(state, state.asked[0]))
        move = self.surroundings.clock(state) or self._calm_round(state)
        return None if move is None else self._in_order(move)

    def _calm_round(self, state: State) -> Move[State] | None:
        """Let a worker carry on the live attempt; where that changes nothing, a month passes."""
        if state.tables.live is None:
            intents = state.stripe.intents
            due = [one for one in intents if invariants.waits_for_webhook(state, one)]
            return self.surroundings.delivered(state, due[0]) if due else None
        worked = next(self.processes.begin(state, 0)).after
        while worked.processes[0] is not None:
            worked = self.processes.calm(worked, 0).after
        if self._in_order(Move("", worked)).after != state:
            return Move("worker 1: takes the attempt, and carries it on", worked)
        later = state.stripe.a_day_later()
        return Move("time: a month passes", state._replace(now=state.now + MONTH, stripe=later))

    def _in_order(self, move: Move[State]) -> Move[State]:
        """Make equal states the same: without keys that nobody uses, and the workers in one order.

        The two workers differ by their names alone, so that one order of them is enough.
        """
        state = reduced(move.after, self.processes)
        first, second, web = map(self._intern, state.processes)
        tables, live, swaps = state.tables, state.tables.live, _rank(first) < _rank(second)
        if swaps:
            first, second = second, first
            swapped = {WORKERS[0]: WORKERS[1], WORKERS[1]: WORKERS[0]}
            if live is not None and live.lease in swapped:
                tables = tables.having(replace(live, lease=swapped[live.lease]))
        after = State(
            self._intern(tables), self._intern(state.stripe), (first, second, web), state.network,
            state.now, state.budget, state.asked,
        )  # fmt: skip
        return Move(move.words, after, swaps)

    def _intern(self, value: Any) -> Any:
        return self._same.setdefault(value, value)


def _rank(position: Position | None) -> tuple[int, int]:
    return (0, 0) if position is None else (len(position.log) + 1, hash(position))
