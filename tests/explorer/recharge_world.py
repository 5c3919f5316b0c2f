"""Two workers, a web process, Stripe, a customer and a network around one organization's recharge.

A state is what PostgreSQL, Stripe and each process have, the requests that the network may still
deliver, the time, and how much may still go wrong. Each process runs the product's own coroutines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from shared.recharge.model import AttemptState
from tests.explorer import recharge_invariants as invariants
from tests.explorer import stripe_model
from tests.explorer.recharge_programs import Programs
from tests.explorer.recharge_statements import Statements
from tests.explorer.recharge_tables import BEGINNING, Attempt, Tables
from tests.explorer.search import Move
from tests.explorer.stepping import Position, Runner, Step, StripeCall
from tests.explorer.stripe_model import Behaviours, Effect, PaymentIntent, Stripe

WORKERS = ("worker 1", "worker 2")
WEB = "web"
DAY, MONTH = timedelta(hours=25), timedelta(days=31)


class Budget(NamedTuple):
    """How often something may still happen."""

    troubles: int = 2
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
    uses: int = 0

    def less(self, *names: str) -> Budget:
        """Return the rest; of no kind of trouble is more left than of all together."""
        left = self._replace(**{name: getattr(self, name) - 1 for name in names})
        return left._replace(**{kind: min(getattr(left, kind), left.troubles) for kind in _TROUBLES})


_TROUBLES = ("kills", "lease_ends", "lost_answers", "refusals")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What may happen, and how often."""

    name: str
    budget: Budget
    behaviours: Behaviours = Behaviours()
    cap: Decimal | None = None
    top_up: bool = False
    ticks: tuple[timedelta, ...] = (DAY,)
    removed: frozenset[str] = frozenset()


class State(NamedTuple):
    """One state of the whole system."""

    tables: Tables
    stripe: Stripe
    processes: tuple[Position | None, Position | None, Position | None]
    network: tuple[StripeCall, ...]
    now: datetime
    budget: Budget


NAMES = (*WORKERS, WEB)
WORK = ("work",)


class RechargeWorld:
    """The moves and invariants of a scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.programs = Programs()
        self.runner: Runner[Tables] = Runner(Statements(scenario.removed), self.programs.start)
        self._same: dict[Any, Any] = {}

    @property
    def invariants(self) -> tuple[str, ...]:
        return invariants.SENTENCES

    def start(self) -> Iterable[State]:
        first = Attempt(number=1, created_at=BEGINNING)
        if self.scenario.top_up:
            first = replace(
                first, trigger="top_up", state=AttemptState.CHARGING, amount=Decimal(20),
                amount_minor=2000, charged_at=BEGINNING, method="pm_1",
            )  # fmt: skip
        tables = Tables(attempts=(first,), cap=self.scenario.cap)
        web = Position(("top_up", first.id), (), None) if self.scenario.top_up else None
        processes = (None, None, web)
        yield self._state(tables, Stripe(), processes, (), BEGINNING, self.scenario.budget)

    def broken(self, state: State) -> str | None:
        return invariants.broken(state)

    def moves(self, state: State) -> Iterator[Move[State]]:
        for move in self._moves(state):
            yield self._in_order(move)

    def calm(self, state: State) -> Move[State] | None:
        move = self._calm(state)
        return None if move is None else self._in_order(move)

    def _moves(self, state: State) -> Iterator[Move[State]]:
        if state.tables.at_bound or state.tables.flaws:
            return
        for place in range(len(NAMES)):
            yield from self._moves_of_process(state, place)
        yield from self._moves_of_network(state)
        yield from self._moves_of_stripe(state)
        yield from self._moves_of_people(state)

    # What a process does, and what befalls it.

    def _moves_of_process(self, state: State, place: int) -> Iterator[Move[State]]:
        position, name, budget = state.processes[place], NAMES[place], state.budget
        if position is None:
            if place < len(WORKERS) and state.processes[:place].count(None) == 0:
                yield from self._begin(state, place)
            return
        if position.call is None:
            yield self._execute(state, place)
        else:
            yield from self._requests(state, place, position.call)
        if budget.kills and budget.troubles:
            yield from self._killed(state, place)
        live = state.tables.live
        if live is not None and live.lease == name and not live.lease_over:
            if budget.lease_ends and budget.troubles:
                yield Move(
                    f"the lease of {name} ends while it is frozen",
                    self._changed(
                        state,
                        tables=state.tables.having(replace(live, lease_over=True)),
                        budget=budget.less("lease_ends", "troubles"),
                    ),
                )

    def _begin(self, state: State, place: int) -> Iterator[Move[State]]:
        live = state.tables.live
        if live is not None and live.can_be_leased:
            started = self._with_process(state, place, Position(WORK, (), None))
            yield self._execute(started, place)

    def _execute(self, state: State, place: int) -> Move[State]:
        position = state.processes[place]
        assert position is not None
        step = self.runner.step(
            position, NAMES[place], state.tables, now=state.now, tries=_free_tries(state)
        )
        after = self._after(state, place, step)
        if step.tables != state.tables:
            after = self._changed(after, tables=step.tables)
        return Move(f"{NAMES[place]}: {_words(step, state.tables)}", after)

    def _after(self, state: State, place: int, step: Step[Any]) -> State:
        """Return the state after a step of a process: where it stands, or an unexpected error."""
        after = self._with_process(state, place, step.position)
        if step.error is not None:
            self.programs.unexpected.append(step.error)
        if self.programs.unexpected:
            flaw = f"nothing fails unexpectedly ({self.programs.unexpected.pop()})"
            after = self._changed(after, tables=state.tables.with_flaw(flaw))
        return after

    def _requests(self, state: State, place: int, call: StripeCall) -> Iterator[Move[State]]:
        about = f"{NAMES[place]}: {call.method.replace('_', ' ')}"
        for effect in state.stripe.effects(call, self.scenario.behaviours):
            yield Move(f"{about}: Stripe {effect.words}", self._answered(state, place, effect))
        budget = state.budget
        if budget.troubles and budget.lost_answers:
            less = budget.less("troubles", "lost_answers")
            lost = self._answered(
                state, place, Effect("", state.stripe, stripe_model.NO_ANSWER), budget=less
            )
            pending = lost
            if call.method != "retrieve":
                pending = self._changed(lost, network=_sorted((*state.network, call)))
            yield Move(f"{about}: the answer is lost; the request may act later, or never", pending)
        if budget.troubles and budget.refusals:
            less = budget.less("troubles", "refusals")
            for effect in _refusals(state.stripe, call):
                yield Move(
                    f"{about}: Stripe {effect.words}",
                    self._answered(state, place, effect, budget=less),
                )

    def _answered(
        self, state: State, place: int, effect: Effect, *, budget: Budget | None = None
    ) -> State:
        position = state.processes[place]
        assert position is not None
        step = self.runner.answer(position, NAMES[place], effect.answer, now=state.now)
        after = self._changed(state, stripe=effect.stripe, budget=budget or state.budget)
        return self._after(after, place, step)

    def _killed(self, state: State, place: int) -> Iterator[Move[State]]:
        """Kill a process: its lease ends later, and its request may still reach Stripe."""
        position, live = state.processes[place], state.tables.live
        tables = state.tables
        if live is not None and live.lease == NAMES[place]:
            tables = tables.having(replace(live, lease_over=True))
        dead = self._changed(
            self._with_process(state, place, None),
            tables=tables,
            budget=state.budget.less("kills", "troubles"),
        )
        yield Move(f"{NAMES[place]} is killed", dead)
        if position is not None and position.call is not None and position.call.method != "retrieve":
            network = _sorted((*state.network, position.call))
            yield Move(
                f"{NAMES[place]} is killed: its request to {position.call.method} is on the way",
                self._changed(dead, network=network),
            )

    # What happens elsewhere.

    def _moves_of_network(self, state: State) -> Iterator[Move[State]]:
        for place, call in enumerate(state.network):
            if call in state.network[:place]:
                continue
            left = (*state.network[:place], *state.network[place + 1 :])
            arrived = self._changed(state, network=left)
            for effect in state.stripe.effects(call, self.scenario.behaviours):
                yield Move(
                    f"the network: a late request to {call.method} arrives; Stripe {effect.words}",
                    self._changed(arrived, stripe=effect.stripe),
                )

    def _moves_of_stripe(self, state: State) -> Iterator[Move[State]]:
        for intent in state.stripe.intents:
            if intent.status == stripe_model.PROCESSING:
                paid = replace(intent, status=stripe_model.SUCCEEDED)
                failed = replace(
                    intent, status=stripe_model.DECLINED, error=stripe_model.BANK_REFUSED
                )
                yield Move("the bank: pays", self._with_intent(state, paid))
                yield Move("the bank: refuses", self._with_intent(state, failed))
            if intent.status == stripe_model.SUCCEEDED:
                yield from self._webhooks(state, intent)

    def _webhooks(self, state: State, intent: PaymentIntent) -> Iterator[Move[State]]:
        budget = state.budget
        if intent.webhooks == 0:
            yield self._delivered(state, intent)
        elif intent.webhooks == 1 and budget.duplicates:
            yield self._delivered(
                self._changed(state, budget=budget.less("duplicates")), intent, again=" again"
            )
        if intent.webhooks and not intent.refunded and budget.refunds:
            after = self._with_intent(state, replace(intent, refunded=True))
            after = self._at_once(after, ("refund", intent.id))
            yield Move(
                "an operator: refunds the charge, and its event is applied",
                self._changed(after, budget=budget.less("refunds")),
            )

    def _delivered(self, state: State, intent: PaymentIntent, again: str = "") -> Move[State]:
        delivered = replace(intent, webhooks=intent.webhooks + 1)
        after = self._at_once(
            self._with_intent(state, delivered), ("event", intent.id, intent.attempt)
        )
        return Move(f"a webhook: payment_intent.succeeded of {intent.id} is applied{again}", after)

    def _moves_of_people(self, state: State) -> Iterator[Move[State]]:
        budget, tables = state.budget, state.tables
        if budget.ticks:
            for length in self.scenario.ticks:
                passed = self._changed(
                    state, now=state.now + length, budget=budget.less("ticks")
                )
                yield Move(f"time: {length.total_seconds() / 3600:.0f} hours pass", passed)
        ticked = self._at_once(state, ("tick",))
        if ticked != state:
            yield Move("the clock: arms, and ends what is over", ticked)
        if budget.uses and tables.live is None:
            used = self._changed(
                state, tables=tables.used(Decimal(20), state.now), budget=budget.less("uses")
            )
            yield Move("the customer: uses 20 credits", used)
        if budget.authentications:
            yield from self._authentications(state)
        if budget.cards and tables.method == "pm_1":
            carded = self._at_once(
                self._changed(state, tables=replace(tables, method="pm_2")), ("card",)
            )
            yield Move(
                "the customer: puts another card on file",
                self._changed(carded, budget=budget.less("cards")),
            )
        if budget.suspensions and tables.rule_state in ("active", "paused_requires_action"):
            suspended = self._at_once(state, ("suspend",))
            yield Move(
                "an operator: suspends auto-recharge",
                self._changed(suspended, budget=budget.less("suspensions")),
            )
        if budget.cancels and tables.live is not None and state.processes[2] is None:
            asked = self._with_process(
                state, 2, Position(("cancel", tables.live.id), (), None)
            )
            yield Move(
                "a person: requests a cancellation",
                self._changed(asked, budget=budget.less("cancels")),
            )

    def _authentications(self, state: State) -> Iterator[Move[State]]:
        """Let the customer confirm on the page, of whose link they know: it may succeed or not."""
        linked = {a.intent for a in state.tables.attempts if a.link_expires_at is not None}
        less = state.budget.less("authentications")
        for intent in state.stripe.intents:
            if intent.id not in linked or intent.status not in (
                stripe_model.DECLINED, stripe_model.ACTION, stripe_model.CREATED,
            ):  # fmt: skip
                continue
            for words, status, error in (
                ("authenticates the payment", stripe_model.SUCCEEDED, None),
                ("fails to authenticate", stripe_model.DECLINED, stripe_model.NOT_AUTHENTICATED),
            ):
                after = self._with_intent(state, replace(intent, status=status, error=error))
                yield Move(f"the customer: {words}", self._changed(after, budget=less))

    # The calm end: nothing goes wrong any more, nobody acts, and time passes.

    def _calm(self, state: State) -> Move[State] | None:
        if state.tables.at_bound or state.tables.flaws:
            return None
        for place, position in enumerate(state.processes):
            if position is None:
                continue
            if position.call is None:
                return self._execute(state, place)
            effect = _calm_effect(state.stripe, position.call, self.scenario.behaviours)
            return Move(
                f"{NAMES[place]}: {position.call.method}: Stripe {effect.words}",
                self._answered(state, place, effect),
            )
        if state.network:
            return Move("the network: what is on the way is lost", self._changed(state, network=()))
        return self._calm_round(state)

    def _calm_round(self, state: State) -> Move[State] | None:
        """Let a worker take the live attempt; where that changes nothing, let a month pass."""
        ticked = self._at_once(state, ("tick",))
        if ticked != state:
            return Move("the clock: arms, and ends what is over", ticked)
        if state.tables.live is None:
            due = [i for i in state.stripe.intents if i.status == "succeeded" and not i.webhooks]
            if not due or not invariants.waits_for_webhook(state, due[0]):
                return None
            return self._delivered(state, due[0])
        worked = self._whole_round(state)
        if worked != state:
            return Move("worker 1: takes the attempt, and carries it on", worked)
        return Move("time: a month passes", self._changed(state, now=state.now + MONTH))

    def _whole_round(self, state: State) -> State:
        after = next(self._begin(state, 0)).after
        while (position := after.processes[0]) is not None:
            if position.call is None:
                after = self._execute(after, 0).after
            else:
                effect = _calm_effect(after.stripe, position.call, self.scenario.behaviours)
                after = self._answered(after, 0, effect)
        return after

    # Building states.

    def _at_once(self, state: State, program: tuple[Any, ...]) -> State:
        """Run a program of one transaction."""
        key = (program, state.tables, state.now)
        if key not in self._same:
            position = Position(program, (), None)
            step = self.runner.step(position, WEB, state.tables, now=state.now)
            tables = step.tables
            if step.position is not None or step.error is not None:
                tables = tables.with_flaw(f"nothing fails unexpectedly ({program}: {step.error})")
            self._same[key] = tables
        tables = self._same[key]
        return state if tables == state.tables else self._changed(state, tables=tables)

    def _with_process(self, state: State, place: int, position: Position | None) -> State:
        processes = list(state.processes)
        processes[place] = self._intern(position)
        return self._changed(state, processes=tuple(processes))

    def _with_intent(self, state: State, intent: PaymentIntent) -> State:
        return self._changed(state, stripe=state.stripe.having(intent))

    def _changed(self, state: State, **changes: Any) -> State:
        return self._state(*state._replace(**changes))

    def _state(self, *parts: Any) -> State:
        state = State(*parts)
        stripe = state.stripe.without_keys(_unused_keys(state))
        return state._replace(tables=self._intern(state.tables), stripe=self._intern(stripe))

    def _in_order(self, move: Move[State]) -> Move[State]:
        """Order the two workers: they differ by their names alone, so that one order is enough."""
        state = move.after
        first, second, web = state.processes
        if _rank(first) >= _rank(second):
            return move
        swapped = {WORKERS[0]: WORKERS[1], WORKERS[1]: WORKERS[0]}
        tables, live = state.tables, state.tables.live
        if live is not None and live.lease in swapped:
            tables = self._intern(tables.having(replace(live, lease=swapped[live.lease])))
        after = state._replace(tables=tables, processes=(second, first, web))
        return Move(move.words, after, swaps=True)

    def _intern(self, value: Any) -> Any:
        return self._same.setdefault(value, value)


def _rank(position: Position | None) -> tuple[int, int]:
    return (0, 0) if position is None else (len(position.log) + 1, hash(position))


def _tries(state: State) -> set[int]:
    """Return the numbers of tries that processes and requests on the way still use."""
    used = set()
    for position in state.processes:
        if position is not None and position.log and position.program == WORK:
            used.update(row["tries"] for row in position.log[0].results[0])
    for call in state.network:
        parts = (call.key or "").split(":")
        if parts[-1] == "confirm":
            used.add(int(parts[2]))
    return used


def _free_tries(state: State) -> int:
    """Return a number of tries that nobody uses: the product counts up, and so never repeats."""
    return 1 + max(_tries(state), default=0)


def _unused_keys(state: State) -> frozenset[str]:
    """Return the stored keys of confirmations whose number of tries nobody uses any more."""
    keys = [key for key, _ in state.stripe.answers if key.endswith(":confirm")]
    if not keys:
        return frozenset()
    used = _tries(state)
    return frozenset(key for key in keys if int(key.split(":")[2]) not in used)


def _refusals(stripe: Stripe, call: StripeCall) -> Iterator[Effect]:
    yield Effect("is at its rate limit (429)", stripe, stripe_model.THROTTLED)
    yield Effect("refuses the API key (401)", stripe, stripe_model.UNAUTHORIZED)
    if call.method == "create" and call.key is not None:
        if all(key != call.key for key, _ in stripe.answers):
            yield stripe.fails(call)


def _calm_effect(stripe: Stripe, call: StripeCall, behaviours: Behaviours) -> Effect:
    """Return how Stripe acts in calm: a confirmation is declined where it may be, for the worst."""
    return list(stripe.effects(call, behaviours))[-1 if call.method == "cancel" else 0]


def _sorted(calls: tuple[StripeCall, ...]) -> tuple[StripeCall, ...]:
    return tuple(sorted(calls, key=lambda call: (call.method, call.about, call.key or "")))


_WORDS = {
    "claim": "takes the attempt under a lease",
    "take": "takes the attempt under a lease",
    "begin": "decides to charge, and commits the amount",
    "store_intent": "commits the id of the PaymentIntent",
    "store_decline": "commits the decline",
    "settings": "reads whether the rule may charge",
}


def _words(step: Step[Tables], before: Tables) -> str:
    """Return what a step did: the change of state if there is one."""
    states = [str(attempt.state) for attempt in step.tables.attempts]
    was = [str(attempt.state) for attempt in before.attempts]
    if "transition" in step.statements:
        if len(step.tables.ledger) > len(before.ledger):
            return f"commits the credit together with: {', '.join(states)}"
        return f"commits: {', '.join(states)}" + ("" if states != was else " (released)")
    name = next((name for name in step.statements if name in _WORDS), None)
    return _WORDS.get(name or "", ", ".join(step.statements))
