"""The scenarios of `make explore`, and the rules that are removed in turn."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from unittest import mock

from shared.events import reversals
from shared.events import rules as event_rules
from shared.events.model import Ignored
from shared.payments.payment_intents import GatewayAnswer
from shared.recharge import outcomes, service
from shared.recharge.model import ChargingAttempt
from shared.recharge.outcomes import Look
from shared.recharge.transitions import CancelFirst, Step, Transition
from tests.explorer.crediting_statements import CREDIT_KEY
from tests.explorer.recharge_state import MONTH, Budget, Scenario
from tests.explorer.recharge_statements import FENCE, STORED_INTENT, SUSPENSION_LOOK
from tests.explorer.reversal_statements import ANSWER_TIME, REVERSED_PART
from tests.explorer.stepping import ATOMIC
from tests.explorer.stripe_model import Behaviours

HOURS = timedelta(hours=2)


def scenarios(faults: int) -> list[Scenario]:
    """Return the scenarios, each with at most so many faults in one history.

    Where people act as well, there is one fault less.
    """
    budget = Budget(faults=faults)
    return [
        Scenario(name="a card that may be declined", budget=budget),
        Scenario(
            name="the next attempt after it, with a monthly cap",
            budget=budget._replace(faults=faults - 1, uses=1),
            behaviours=Behaviours(hard_declines=True),
            cap=Decimal(30),
            ticks=(HOURS,),
        ),
        Scenario(
            name="3-D Secure",
            budget=budget._replace(faults=faults - 1, authentications=2),
            behaviours=Behaviours(challenges=True),
        ),
        Scenario(
            name="3-D Secure, and another card",
            budget=budget._replace(faults=faults - 1, authentications=1, cards=1),
            behaviours=Behaviours(declines=False, challenges=True),
        ),
        Scenario(
            name="a bank debit, and a bank that never decides",
            budget=budget._replace(faults=faults - 1),
            behaviours=Behaviours(declines=False, processes=True, cancels_processing=True),
            ticks=(MONTH,),
        ),
        Scenario(
            name="a cancellation by a person",
            budget=budget._replace(faults=faults - 1, cancels=1),
            behaviours=Behaviours(challenges=True),
        ),
        Scenario(
            name="a top-up, with its customer",
            budget=budget._replace(faults=faults - 1, authentications=1, duplicates=0),
            behaviours=Behaviours(declines=False, challenges=True),
            top_up=True,
        ),
        Scenario(
            name="a suspension, and a refund",
            budget=budget._replace(faults=faults - 1, suspensions=1, refunds=1, uses=1),
            behaviours=Behaviours(declines=False),
        ),
        Scenario(
            name="a dispute, and a refund beside it",
            budget=budget._replace(faults=faults - 1, disputes=1, refunds=1, ticks=0),
            behaviours=Behaviours(declines=False),
        ),
    ]


def narrowed(scenario: Scenario) -> Scenario:
    """Return a scenario that takes about a second: without deadlines and repeated webhooks."""
    budget = scenario.budget
    authentications = 0 if scenario.top_up or budget.cards else min(1, budget.authentications)
    challenges = scenario.behaviours.challenges and not scenario.top_up
    return replace(
        scenario,
        budget=budget._replace(ticks=0, duplicates=0, authentications=authentications),
        behaviours=replace(scenario.behaviours, challenges=challenges),
    )


def _without_a_look(
    attempt: ChargingAttempt, detail: str, look: Look, *, new_create_key: bool
) -> Transition:
    """Treat an unclear outcome as if nothing had been charged."""
    return outcomes.given_up(detail)


_after_answer = outcomes.after_answer


def _without_cancellation(attempt: ChargingAttempt, answer: GatewayAnswer, look: Look) -> Step:
    """End an attempt without canceling its PaymentIntent first."""
    step = _after_answer(attempt, answer, look)
    return step.then if isinstance(step, CancelFirst) else step


def _patch(name: str, function: object) -> AbstractContextManager[object]:
    return mock.patch.object(outcomes, name, function)


async def _not_credited(*_: object) -> Ignored:
    return Ignored("its payment is not credited yet")


async def _not_suspended(*_: object, **__: object) -> bool:
    return False


_REVERSED = Scenario(
    name="",
    budget=Budget(faults=0, ticks=0, disputes=1, refunds=1),
    behaviours=Behaviours(declines=False),
)
_PLAIN = Scenario(name="", budget=Budget(faults=1, ticks=1))

REMOVED_RULES: dict[str, Scenario] = {
    "each write is fenced by the token of the lease": replace(_PLAIN, removed=frozenset({FENCE})),
    "the ledger posts a payment's key once": replace(_PLAIN, removed=frozenset({CREDIT_KEY})),
    "the id of a PaymentIntent is committed before it is confirmed": replace(
        _PLAIN, removed=frozenset({STORED_INTENT})
    ),
    "a creation is repeated under the same idempotency key": replace(
        _PLAIN, behaviours=Behaviours(keeps_keys=False)
    ),
    "a confirmation without an answer is looked up": replace(
        _PLAIN, patched=lambda: _patch("_look_again", _without_a_look)
    ),
    "a PaymentIntent is canceled before its attempt ends": replace(
        _PLAIN, patched=lambda: _patch("after_answer", _without_cancellation)
    ),
    "a state commits together with its effects": replace(_PLAIN, removed=frozenset({ATOMIC})),
    "the event of a refund credits its payment first": replace(
        _REVERSED, patched=lambda: mock.patch.object(reversals, "_credit_first", _not_credited)
    ),
    "an older answer of Stripe about a payment changes nothing": replace(
        _REVERSED, removed=frozenset({ANSWER_TIME})
    ),
    "the part that is taken back of a payment is read under its lock": replace(
        _REVERSED, removed=frozenset({REVERSED_PART})
    ),
    "a refund of a recharge suspends its rule": replace(
        _REVERSED, patched=lambda: mock.patch.object(service, "refunded", _not_suspended)
    ),
    "a dispute suspends the rule of its payment": replace(
        _REVERSED,
        patched=lambda: mock.patch.object(event_rules, "suspension_of", return_value=None),
    ),
    "whether the rule may charge is read again after a lease ended": replace(
        _PLAIN,
        budget=Budget(faults=1, ticks=0, suspensions=1),
        removed=frozenset({SUSPENSION_LOOK}),
    ),
}
