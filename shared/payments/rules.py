"""What refunds and disputes of a payment come to. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import ROUND_FLOOR, Decimal

from shared.money import CREDIT_QUANTUM
from shared.payments.invoice_objects import InvoicePayment
from shared.payments.model import PaymentFacts
from shared.payments.objects import (
    CheckoutSession,
    Dispute,
    PaymentIntent,
    Refund,
    reference_id,
)

# A refund that failed or was canceled has given nothing back.
# Source: https://docs.stripe.com/api/refunds/object#refund_object-status
_GIVES_BACK = frozenset({"pending", "requires_action", "succeeded"})
# Source: https://docs.stripe.com/api/disputes/object#dispute_object-status
_CLOSED = frozenset({"won", "lost", "warning_closed", "prevented"})


def facts(
    payment_intent: PaymentIntent,
    refunds: Iterable[Refund],
    disputes: Sequence[Dispute],
    *,
    session: CheckoutSession | None = None,
    invoice_id: str | None = None,
) -> PaymentFacts:
    """Add up what Stripe has answered."""
    return PaymentFacts(
        payment_intent,
        refunded_minor=sum(refund.amount for refund in refunds if refund.status in _GIVES_BACK),
        withdrawn_minor=sum(map(withdrawn_minor, disputes)),
        disputes=tuple(disputes),
        session=session,
        invoice_id=invoice_id,
    )


def paid_by(payments: Iterable[InvoicePayment]) -> list[tuple[str, int]]:
    """Return the PaymentIntents that have paid an invoice, and how much each paid of it.

    A part that was paid from the customer's balance or out of band has none.
    """
    paid: dict[str, int] = {}
    for each in payments:
        name = reference_id(each.payment.payment_intent) if each.payment else None
        if each.status == "paid" and name is not None and (each.amount_paid or 0) > 0:
            paid[name] = paid.get(name, 0) + (each.amount_paid or 0)
    return sorted(paid.items())


def withdrawn_minor(dispute: Dispute) -> int:
    """Return what a dispute has taken, less what it has reinstated, without fees.

    The movements are in the currency of our Stripe balance. Where that is another than the
    payment's, a rate lies between: then each one stands for the whole dispute.
    """
    moved = dispute.balance_transactions or []
    if all(movement.currency in (None, dispute.currency) for movement in moved):
        return -sum(movement.amount for movement in moved)
    steps = sum((movement.amount < 0) - (movement.amount > 0) for movement in moved)
    return dispute.amount if steps > 0 else 0


def is_inquiry(dispute: Dispute) -> bool:
    """Whether a dispute is a mere inquiry, open or closed: no money is withdrawn for it.

    Source: https://docs.stripe.com/disputes/how-disputes-work#inquiries
    """
    return dispute.status.startswith("warning_")


def is_closed(dispute: Dispute) -> bool:
    """Whether a dispute has its outcome."""
    return dispute.status in _CLOSED


def share(credited: Decimal, minor: int, amount_minor: int) -> Decimal:
    """Return the part of a payment's credits that a part of its money stands for.

    All of the money is all of the credits; a part that has no end is cut at 9 decimals.
    """
    if minor >= amount_minor:
        return credited
    return (credited * max(minor, 0) / amount_minor).quantize(CREDIT_QUANTUM, rounding=ROUND_FLOOR)
