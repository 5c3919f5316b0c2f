"""The effect of refunds and disputes: what they take back of a payment, as Stripe has it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from shared.errors import EventError, UnclaimedError
from shared.events import payments
from shared.events.levels import apply_level
from shared.events.model import Applied, ApplyContext, Ignored, ReversalChanged
from shared.events.questions import answer
from shared.ledger.model import PostedTransaction
from shared.payments import sales
from shared.payments import store as payments_store
from shared.payments.model import PaymentFacts, PaymentQuestion

if TYPE_CHECKING:
    from shared.db.pool import Connection


async def reverse(
    connection: Connection, account: str, changed: ReversalChanged, context: ApplyContext
) -> Applied | Ignored | PostedTransaction:
    """Bring a payment to the reversal level in Stripe's answer; credit it first if it is a sale.

    A reversal never adds credits: a payment that is no sale is unchanged. If it becomes one, it is
    credited at the level in Stripe's answer of that time.
    """
    name = changed.payment_intent_id
    bound = await payments_store.lock_payment(connection, name) is not None
    question = PaymentQuestion(account, name, reversals=True)
    if bound and question not in (context.answers or {}):
        question = question._replace(origin=False)
    facts = answer(question, context)
    if facts.payment_intent.status != "succeeded":
        return Ignored(f"{name} is {facts.payment_intent.status}: nothing of it was credited")
    credited = None if bound else await _credit_first(connection, account, facts, context)
    if isinstance(credited, Ignored):
        return credited
    result = await apply_level(connection, facts, context, of_dispute=changed.of_dispute)
    if result is not None:
        return result
    if credited is not None:
        return credited
    level = await payments_store.lock_payment(connection, name)
    return Applied(level.organization_id if level else None)


async def _credit_first(
    connection: Connection, account: str, facts: PaymentFacts, context: ApplyContext
) -> PostedTransaction | Ignored:
    """Credit a payment before its own event arrives; return the reason if it is no sale.

    The reversal waits for a payment that may be credited later: by its invoice's event, or by the
    replay of its own after a refusal.
    """
    name = facts.payment_intent.id
    try:
        captured = sales.from_intent(facts.payment_intent)
    except EventError as error:
        return Ignored(f"nothing of {name} was credited: {error.detail}")
    payment = replace(captured, account=account)
    credited = (await payments.credit(connection, [payment], context))[payment]
    match credited:
        case PostedTransaction():
            return credited
        case Ignored(reason, waits_for):
            detail = f"nothing of {name} was credited: {reason}"
            if facts.invoice_id or facts.payment_intent.invoice:
                raise UnclaimedError(detail, waits_for=name)
            return Ignored(detail, waits_for)
        case EventError():
            raise UnclaimedError(
                f"nothing of {name} was credited: {credited.detail}", waits_for=name
            )
        case _:
            raise AssertionError(credited)
