"""What the processes do, step by step, and what befalls them: kills, lease ends, lost answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.explorer import stripe_model
from tests.explorer.recharge_programs import Programs
from tests.explorer.recharge_state import (
    NAMES,
    WEB,
    WORK,
    WORKERS,
    Budget,
    Scenario,
    State,
    free_tries,
    with_process,
    with_request,
)
from tests.explorer.recharge_statements import recharge_statements
from tests.explorer.recharge_tables import Tables
from tests.explorer.search import Move
from tests.explorer.stepping import Position, Runner, Step, StripeCall
from tests.explorer.stripe_model import Effect, Stripe


class Processes:
    """The two workers and the web process, which run the product's coroutines."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.programs = Programs()
        self.runner: Runner[Tables] = Runner(
            recharge_statements(), self.programs.start, removed=scenario.removed
        )
        self._at_once: dict[Any, Tables] = {}

    def forget(self) -> None:
        """Forget the steps that were made, so that they are executed again."""
        self.runner.forget()
        self._at_once.clear()

    def moves(self, state: State, place: int) -> Iterator[Move[State]]:
        """Yield what one process may do next, and what may befall it."""
        position, name = state.processes[place], NAMES[place]
        if position is None:
            if place < len(WORKERS) and None not in state.processes[:place]:
                yield from self.begin(state, place)
            return
        if position.call is None:
            yield self.execute(state, place)
        else:
            yield from self._requests(state, place, position.call)
        if state.budget.allows("kills"):
            yield from self._killed(state, place)
        live = state.tables.live
        holds = live is not None and live.lease == name and not live.lease_over
        if live is not None and holds and state.budget.allows("lease_ends"):
            over = state._replace(
                tables=state.tables.having(replace(live, lease_over=True)),
                budget=state.budget.less("lease_ends", "faults"),
            )
            yield Move(f"{name}: freezes until its lease ends", over)

    def begin(self, state: State, place: int) -> Iterator[Move[State]]:
        """Let an idle worker lease the live attempt, if it can be leased."""
        live = state.tables.live
        if live is not None and live.can_be_leased:
            yield self.execute(with_process(state, place, Position(WORK, (), None)), place)

    def execute(self, state: State, place: int) -> Move[State]:
        """Execute the statement or transaction at which a process stands."""
        position = state.processes[place]
        assert position is not None
        tries = 1 if position.log else free_tries(state)
        step = self.runner.step(position, NAMES[place], state.tables, now=state.now, tries=tries)
        after = self._after(state._replace(tables=step.tables), place, step)
        return Move(f"{NAMES[place]}: {_words(step, state.tables)}", after)

    def at_once(self, state: State, *program: Any) -> State:
        """Run a program of one transaction."""
        key = (program, state.tables, state.now)
        if key not in self._at_once:
            position: Position | None = Position(program, (), None)
            tables = state.tables
            while position is not None:
                step = self.runner.step(position, WEB, tables, now=state.now)
                position, tables = step.position, step.tables
            if step.error is not None:
                tables = tables.with_flaw(f"nothing fails unexpectedly ({step.error})")
            self._at_once[key] = tables
        tables = self._at_once[key]
        return state if tables == state.tables else state._replace(tables=tables)

    def calm(self, state: State, place: int) -> Move[State]:
        """Let a process do its next step, while nothing goes wrong."""
        position = state.processes[place]
        assert position is not None
        if position.call is None:
            return self.execute(state, place)
        # A confirmation captures; a bank that may refuse to cancel a debit in progress refuses.
        effects = list(state.stripe.effects(position.call, self.scenario.behaviours))
        effect = effects[-1 if position.call.method == "cancel" else 0]
        words = f"{NAMES[place]}: {_name(position.call)}: Stripe {effect.words}"
        return Move(words, self._answered(state, place, effect))

    def arrivals(self, state: State) -> Iterator[Move[State]]:
        """Let a request arrive whose sender does not wait for it any more."""
        for place, call in enumerate(state.network):
            if call in state.network[:place]:
                continue
            left = (*state.network[:place], *state.network[place + 1 :])
            for effect in state.stripe.effects(call, self.scenario.behaviours):
                yield Move(
                    f"the network: a late request to {_name(call)} arrives; Stripe {effect.words}",
                    state._replace(network=left, stripe=effect.stripe),
                )

    def _after(self, state: State, place: int, step: Step[Any]) -> State:
        """Return the state after a step of a process; an unexpected error is a flaw."""
        after = with_process(state, place, step.position)
        if step.error is not None:
            self.programs.unexpected.append(step.error)
        if self.programs.unexpected:
            flaw = f"nothing fails unexpectedly ({self.programs.unexpected.pop()})"
            after = after._replace(tables=after.tables.with_flaw(flaw))
        return after

    def _requests(self, state: State, place: int, call: StripeCall) -> Iterator[Move[State]]:
        about, budget = f"{NAMES[place]}: {_name(call)}", state.budget
        for effect in state.stripe.effects(call, self.scenario.behaviours):
            yield Move(f"{about}: Stripe {effect.words}", self._answered(state, place, effect))
        if budget.allows("lost_answers"):
            nothing = Effect("", state.stripe, stripe_model.NO_ANSWER)
            lost = self._answered(state, place, nothing, budget.less("faults", "lost_answers"))
            yield Move(
                f"{about}: the answer is lost; the request may act later, or never",
                with_request(lost, call),
            )
        if budget.allows("refusals"):
            less = budget.less("faults", "refusals")
            for effect in _refusals(state.stripe, call):
                yield Move(
                    f"{about}: Stripe {effect.words}", self._answered(state, place, effect, less)
                )

    def _answered(
        self, state: State, place: int, effect: Effect, budget: Budget | None = None
    ) -> State:
        position = state.processes[place]
        assert position is not None
        step = self.runner.answer(position, NAMES[place], effect.answer, now=state.now)
        after = state._replace(stripe=effect.stripe, budget=budget or state.budget)
        return self._after(after, place, step)

    def _killed(self, state: State, place: int) -> Iterator[Move[State]]:
        """Kill a process: its lease ends later, and its request may still reach Stripe."""
        position, tables, live = state.processes[place], state.tables, state.tables.live
        if live is not None and live.lease == NAMES[place]:
            tables = tables.having(replace(live, lease_over=True))
        budget = state.budget.less("kills", "faults")
        dead = with_process(state, place, None)._replace(tables=tables, budget=budget)
        yield Move(f"{NAMES[place]}: is killed", dead)
        if (
            position is not None
            and position.call is not None
            and position.call.method != "retrieve"
        ):
            yield Move(
                f"{NAMES[place]}: is killed; its request to {_name(position.call)} may arrive",
                with_request(dead, position.call),
            )


def _refusals(stripe: Stripe, call: StripeCall) -> Iterator[Effect]:
    if call.method in ("create", "confirm"):
        yield Effect("refuses the amount (400)", stripe, stripe_model.CHARGE_REFUSED)
        yield Effect("has the card detached (400)", stripe, stripe_model.DETACHED)
    yield Effect("is at its rate limit (429)", stripe, stripe_model.THROTTLED)
    yield Effect("refuses the API key (401)", stripe, stripe_model.UNAUTHORIZED)
    if call.method == "create" and all(key != call.key for key, _ in stripe.answers):
        yield stripe.fails(call)


def _name(call: StripeCall) -> str:
    words = call.method.replace("_", " ")
    return f"{words} {call.about}" if call.about.startswith("pi_") else words


_WORDS = {
    "claim": "takes the attempt under a lease",
    "take": "takes the attempt under a lease",
    "begin": "decides to charge, and commits the amount",
    "store_intent": "commits the id of the PaymentIntent",
    "store_decline": "commits the decline",
    "settings": "reads whether the rule may charge",
}


def _words(step: Step[Tables], before: Tables) -> str:
    """Return what a step did, in words."""
    if "transition" in step.statements:
        states = ", then ".join(attempt.state for attempt in step.tables.attempts)
        credited = len(step.tables.ledger) - len(before.ledger)
        return f"commits the state {states}" + (", with the credit" if credited else "")
    known = [_WORDS[name] for name in step.statements if name in _WORDS]
    return known[0] if known else ", ".join(step.statements) or "commits nothing"
