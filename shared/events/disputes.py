"""The effects of a payment's disputes besides ledger rows: messages and suspensions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.events import rules, store
from shared.events.model import ApplyContext
from shared.outbound import service as outbound
from shared.outbound.model import MessageType
from shared.payments.model import PaymentFacts, PaymentLevel
from shared.payments.rules import is_inquiry
from shared.recharge import service as recharge

if TYPE_CHECKING:
    from shared.db.pool import Connection


async def announce(
    connection: Connection, payment: PaymentLevel, facts: PaymentFacts, context: ApplyContext
) -> None:
    """Store a locked payment's disputes; announce once each that opened and each that closed.

    An inquiry suspends auto-recharge until it closes. A dispute that withdraws funds suspends it
    until a person resumes it, whether it is new or was an inquiry before, unless
    it closed already without a loss.
    """
    if not facts.disputes:
        return
    organization_id = payment.organization_id
    payment_intent_id = facts.payment_intent.id
    stored = await store.save_disputes(
        connection, organization_id, payment_intent_id, facts.disputes, currency=payment.currency
    )
    messages = [
        rules.dispute_message(dispute, payment_intent_id, payment, message_type, context.now)
        for dispute in facts.disputes
        for ids, message_type in (
            (stored.opened, MessageType.DISPUTE_OPENED),
            (stored.closed, MessageType.DISPUTE_CLOSED),
        )
        if dispute.id in ids
    ]
    await outbound.announce(connection, messages)
    for dispute in facts.disputes:
        reason = rules.suspension_of(
            dispute,
            is_new=dispute.id in stored.opened,
            was_inquiry=dispute.id in stored.inquiries,
        )
        if reason is not None:
            await recharge.suspend(
                connection,
                organization_id,
                reason,
                f"{payment_intent_id} is disputed: {dispute.reason or 'no reason given'}.",
                now=context.now,
                make_id=context.make_id,
            )
    ended = stored.closed | (stored.inquiries - {d.id for d in facts.disputes if is_inquiry(d)})
    if ended:
        await recharge.end_inquiry(connection, organization_id)
