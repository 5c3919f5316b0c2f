"""What happens around the processes: banks, webhooks, customers, operators, and time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

from tests.explorer import stripe_model
from tests.explorer.recharge_processes import Processes
from tests.explorer.recharge_state import DAY, Asked, State, with_process
from tests.explorer.recharge_tables import FIRST_CARD, SECOND_CARD
from tests.explorer.search import Move
from tests.explorer.stepping import Position
from tests.explorer.stripe_model import PaymentIntent

_CONFIRMABLE = (stripe_model.DECLINED, stripe_model.ACTION, stripe_model.CREATED)
_ON_PAGE = (
    ("authenticates the payment", stripe_model.SUCCEEDED, None),
    ("fails to authenticate", stripe_model.DECLINED, stripe_model.NOT_AUTHENTICATED),
)


class Surroundings:
    """The moves of everybody but the processes."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    def moves(self, state: State) -> Iterator[Move[State]]:
        yield from self._banks_and_webhooks(state)
        yield from self._time(state)
        yield from self._customer(state)
        yield from self._operator(state)

    def delivered(self, state: State, intent: PaymentIntent, again: str = "") -> Move[State]:
        """Apply the event of a captured PaymentIntent. The inbox applies each in one commit."""
        known = _with_intent(state, replace(intent, webhooks=intent.webhooks + 1))
        after = self._processes.at_once(known, "event", intent.id, intent.attempt)
        return Move(f"a webhook: the success of {intent.id} is applied{again}", after)

    def clock(self, state: State) -> Move[State] | None:
        """Arm what was missed, and end what is over; None: nothing is."""
        ticked = self._processes.at_once(state, "tick")
        return None if ticked == state else Move("the clock: arms, or ends a suspension", ticked)

    def applied(self, state: State, answer: Asked) -> Move[State]:
        """Apply the event of a refund or dispute, with the answer that Stripe gave about it."""
        left = tuple(one for one in state.asked if one != answer)
        intent = state.stripe[answer.intent]
        after = self._processes.at_once(
            state._replace(asked=left), "reversal", intent.attempt, answer
        )
        kind = "dispute" if answer.of_dispute else "refund"
        return Move(f"a webhook: the {kind} of {intent.id} is applied", after)

    def _reversals(self, state: State, intent: PaymentIntent) -> Iterator[Move[State]]:
        """Refund or dispute a captured payment; deliver the events of both, at any time after."""
        budget = state.budget
        if not intent.refunded and budget.refunds:
            refunded = _with_intent(state, replace(intent, refunded=True))
            yield Move(
                "an operator: refunds a part of the charge",
                refunded._replace(budget=budget.less("refunds")),
            )
        if not intent.disputed and budget.disputes:
            disputed = _with_intent(state, replace(intent, disputed=True))
            yield Move(
                "the customer: disputes the charge",
                disputed._replace(budget=budget.less("disputes")),
            )
        for of_dispute, happened in enumerate((intent.refunded, intent.disputed)):
            times = intent.reversal_events[of_dispute]
            if not happened or times > 1 or (times == 1 and not budget.duplicates):
                continue
            counts = [*intent.reversal_events]
            counts[of_dispute] += 1
            known = _with_intent(state, replace(intent, reversal_events=(counts[0], counts[1])))
            answer = Asked(
                intent.id, bool(of_dispute), intent.refunded, intent.disputed, sum(counts)
            )
            kind, again = ("dispute" if of_dispute else "refund"), (" again" if times else "")
            yield Move(
                f"a webhook: the {kind} of {intent.id} comes{again}, and Stripe is asked",
                known._replace(
                    asked=(*state.asked, answer),
                    budget=budget.less("duplicates") if times else budget,
                ),
            )

    def _banks_and_webhooks(self, state: State) -> Iterator[Move[State]]:
        budget = state.budget
        for intent in state.stripe.intents:
            if intent.status == stripe_model.PROCESSING:
                paid = replace(intent, status=stripe_model.SUCCEEDED)
                yield Move("the bank: pays", _with_intent(state, paid))
                error = stripe_model.BANK_REFUSED
                refused = replace(intent, status=stripe_model.DECLINED, error=error)
                yield Move("the bank: refuses", _with_intent(state, refused))
            if intent.status != stripe_model.SUCCEEDED:
                continue
            if intent.webhooks == 0:
                yield self.delivered(state, intent)
            elif intent.webhooks == 1 and budget.duplicates:
                less = state._replace(budget=budget.less("duplicates"))
                yield self.delivered(less, intent, " again")
            yield from self._reversals(state, intent)
        for answer in state.asked:
            yield self.applied(state, answer)

    def _time(self, state: State) -> Iterator[Move[State]]:
        if state.budget.ticks:
            for length in self._processes.scenario.ticks:
                passed = state._replace(
                    now=state.now + length,
                    budget=state.budget.less("ticks"),
                    stripe=state.stripe.a_day_later() if length >= DAY else state.stripe,
                )
                yield Move(f"time: {length.total_seconds() / 3600:.0f} hours pass", passed)
        ticked = self.clock(state)
        if ticked is not None:
            yield ticked

    def _customer(self, state: State) -> Iterator[Move[State]]:
        budget, tables = state.budget, state.tables
        if budget.uses and tables.live is None:
            # The balance falls below the threshold again, by so little that one charge fills it.
            credits_ = Decimal(20) if tables.balance >= Decimal(20) else Decimal(1)
            used = tables.used(credits_, state.now)
            yield Move(
                f"the customer: uses {credits_} credits",
                state._replace(tables=used, budget=budget.less("uses")),
            )
        if budget.cards and tables.method == FIRST_CARD:
            another = state._replace(tables=replace(tables, method=SECOND_CARD))
            after = self._processes.at_once(another, "card")
            yield Move(
                "the customer: puts another card on file",
                after._replace(budget=budget.less("cards")),
            )
        if budget.authentications:
            yield from self._on_page(state)

    def _on_page(self, state: State) -> Iterator[Move[State]]:
        """Let the customer confirm on the page, of whose link they know: it succeeds or fails."""
        linked = {a.intent for a in state.tables.attempts if a.link_expires_at is not None}
        less = state._replace(budget=state.budget.less("authentications"))
        for intent in state.stripe.intents:
            if intent.id in linked and intent.status in _CONFIRMABLE:
                for words, status, error in _ON_PAGE:
                    changed = replace(intent, status=status, error=error)
                    yield Move(f"the customer: {words}", _with_intent(less, changed))

    def _operator(self, state: State) -> Iterator[Move[State]]:
        budget, tables = state.budget, state.tables
        if budget.suspensions and tables.rule_state in ("active", "paused_requires_action"):
            suspended = self._processes.at_once(state, "suspend")
            yield Move(
                "an operator: suspends auto-recharge",
                suspended._replace(budget=budget.less("suspensions")),
            )
        if budget.cancels and tables.live is not None and state.processes[2] is None:
            asked = with_process(state, 2, Position(("cancel", tables.live.id), (), None))
            yield Move(
                "a person: requests a cancellation",
                asked._replace(budget=budget.less("cancels")),
            )


def _with_intent(state: State, intent: PaymentIntent) -> State:
    return state._replace(stripe=state.stripe.having(intent))
