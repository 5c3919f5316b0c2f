"""The reversal level of a payment: the total that its refunds and disputes took back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import EventError
from shared.events import disputes
from shared.events.model import ApplyContext
from shared.ledger import service as ledger
from shared.ledger.model import PostedTransaction, PostingStatus
from shared.payments import store as payments_store
from shared.payments.crediting import on_the_ledger
from shared.payments.model import PaymentFacts
from shared.payments.objects import reference_id
from shared.payments.rules import share
from shared.recharge import service as recharge

if TYPE_CHECKING:
    from shared.db.pool import Connection


async def apply_level(
    connection: Connection, facts: PaymentFacts, context: ApplyContext, *, of_dispute: bool
) -> PostedTransaction | None:
    """Post the change in what refunds and disputes took back of a bound payment.

    None: there is no difference, or a later answer from Stripe was applied already.
    """
    name = facts.payment_intent.id
    level = await payments_store.lock_payment(connection, name)
    as_of = context.as_of
    if level is None or as_of is None:
        return None
    if level.reversal_as_of is not None and level.reversal_as_of > as_of:
        return None
    charge_id = reference_id(facts.payment_intent.latest_charge)
    await payments_store.record_level(connection, name, as_of, charge_id)
    await disputes.announce(connection, level, facts, context)
    disputed = facts.withdrawn_minor > 0 and (of_dispute or facts.refunded_minor == 0)
    result = await ledger.reverse_payment(
        connection,
        name,
        refunded=share(level.credits, facts.refunded_minor, level.amount_minor),
        withdrawn=share(level.credits, facts.withdrawn_minor, level.amount_minor),
        disputed=disputed,
        make_id=context.make_id,
    )
    if result is None:
        return None
    posted = on_the_ledger(result)
    if isinstance(posted, EventError):
        raise posted
    if not disputed and posted.status is PostingStatus.POSTED and posted.amount < 0:
        await recharge.refunded(
            connection, level.organization_id, name, now=context.now, make_id=context.make_id
        )
    return posted
