"""What the disputes of a payment bring besides the ledger's rows: messages, and a suspension."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.events import rules, store
from shared.events.model import ApplyContext
from shared.notifications import service as notifications
from shared.notifications.model import MessageType
from shared.payments.model import PaymentFacts, PaymentLevel
from shared.payments.rules import is_closed
from shared.recharge import service as recharge
from shared.recharge.model import SuspensionReason

if TYPE_CHECKING:
    from shared.db.pool import Connection


async def tell(
    connection: Connection, payment: PaymentLevel, facts: PaymentFacts, context: ApplyContext
) -> None:
    """Store a locked payment's disputes; tell once of each that opened and of each that closed.

    A dispute that is new stops auto-recharge, unless it has been closed without a loss already.
    """
    if not facts.disputes:
        return
    payment_intent_id = facts.payment_intent.id
    opened, closed = await store.keep_disputes(
        connection,
        payment.organization_id,
        payment_intent_id,
        facts.disputes,
        currency=payment.currency,
    )
    told = [
        rules.dispute_message(dispute, payment_intent_id, payment, message_type, context.now)
        for dispute in facts.disputes
        for ids, message_type in (
            (opened, MessageType.DISPUTE_OPENED),
            (closed, MessageType.DISPUTE_CLOSED),
        )
        if dispute.id in ids
    ]
    await notifications.announce(connection, told)
    for dispute in facts.disputes:
        if dispute.id in opened and (dispute.status == "lost" or not is_closed(dispute)):
            await recharge.suspend(
                connection,
                payment.organization_id,
                SuspensionReason.DISPUTE,
                f"{payment_intent_id} is disputed: {dispute.reason or 'no reason given'}.",
                now=context.now,
                make_id=context.make_id,
            )
