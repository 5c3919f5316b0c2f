"""The totals of a payment's refunds and disputes. Pure."""

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
    Presentment,
    Refund,
    reference_id,
)

# A failed or canceled refund returns nothing.
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
    """Return a payment with the totals of its refunds and disputes."""
    return PaymentFacts(
        payment_intent,
        refunded_minor=_refunded_minor(payment_intent, refunds),
        withdrawn_minor=sum(
            withdrawn_minor(
                dispute,
                payment_intent.amount_received,
                payment_intent.currency,
                payment_intent.presentment_details,
            )
            for dispute in disputes
        ),
        disputes=tuple(disputes),
        session=session,
        invoice_id=invoice_id,
    )


def _refunded_minor(intent: PaymentIntent, refunds: Iterable[Refund]) -> int:
    """Return what refunds give back of the captured amount.

    After a partial capture, Stripe lists the rest of the authorization as a refund, which moves no
    money: it has no balance transaction, or is more than was captured.
    """
    captured = intent.amount_received
    given = [refund for refund in refunds if refund.status in _GIVES_BACK]
    released = (
        refund.amount
        for refund in given
        if refund.amount == intent.amount - captured
        and (refund.balance_transaction is None or refund.amount > captured)
    )
    return sum(refund.amount for refund in given) - next(released, 0)


def paid_by(payments: Iterable[InvoicePayment]) -> list[tuple[str, int]]:
    """Return the PaymentIntents that paid an invoice, each with its amount.

    Payments from the customer's balance or out of band have no PaymentIntent.
    """
    paid: dict[str, int] = {}
    for each in payments:
        name = reference_id(each.payment.payment_intent) if each.payment else None
        if each.status == "paid" and name is not None and (each.amount_paid or 0) > 0:
            paid[name] = paid.get(name, 0) + (each.amount_paid or 0)
    return sorted(paid.items())


def withdrawn_minor(
    dispute: Dispute, amount_minor: int, currency: str, shown: Presentment | None = None
) -> int:
    """Return what a dispute withdrew of a payment, less what was reinstated, without fees.

    `amount_minor` and `currency` are those of the payment, as is the result; `shown` is its price
    in the customer's currency. The movements are in the currency of the Stripe balance. Unless
    both that and the dispute's are the payment's, each movement counts as the whole dispute, since
    the exchange rate is unknown.
    """
    moved = dispute.balance_transactions or []
    known = {None, currency}
    if dispute.currency in known and all(movement.currency in known for movement in moved):
        return -sum(movement.amount for movement in moved)
    steps = sum((movement.amount < 0) - (movement.amount > 0) for movement in moved)
    return _disputed_minor(dispute, amount_minor, currency, shown) if steps > 0 else 0


def _disputed_minor(
    dispute: Dispute, amount_minor: int, currency: str, shown: Presentment | None
) -> int:
    """Return a dispute's amount in the payment's currency; the whole payment if it is unknown."""
    if dispute.currency in {None, currency}:
        return dispute.amount
    if shown is None or shown.presentment_currency != dispute.currency:
        return amount_minor
    if dispute.amount >= shown.presentment_amount:
        return amount_minor
    return amount_minor * dispute.amount // shown.presentment_amount


def is_inquiry(dispute: Dispute) -> bool:
    """Whether a dispute is an inquiry, open or closed: no funds are withdrawn for it.

    Source: https://docs.stripe.com/disputes/how-disputes-work#inquiries
    """
    return dispute.status.startswith("warning_")


def is_closed(dispute: Dispute) -> bool:
    """Whether a dispute has an outcome."""
    return dispute.status in _CLOSED


def share(credited: Decimal, minor: int, amount_minor: int) -> Decimal:
    """Return the credits in proportion to a part of a payment's amount.

    The full amount gives all of the credits; a fraction is truncated to 9 decimals.
    """
    if minor >= amount_minor:
        return credited
    return (credited * max(minor, 0) / amount_minor).quantize(CREDIT_QUANTUM, rounding=ROUND_FLOOR)
