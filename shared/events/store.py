"""The SQL that joins events, payments and organizations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from shared.db.queries import beside
from shared.events.model import BoundPayment, CheckoutClosed, Owner, PaymentCaptured
from shared.ids import parse_id

if TYPE_CHECKING:
    from shared.db.pool import Connection

QUERIES = beside(__file__)


async def owners(connection: Connection, payments: Sequence[PaymentCaptured]) -> list[Owner | None]:
    """Return the organization of each payment, in order; None where it has none here."""
    named = [payment.named_organization for payment in payments]
    rows = await connection.fetch(
        QUERIES.owners,
        [payment.payment_intent_id for payment in payments],
        [payment.checkout_session_id for payment in payments],
        [payment.purchase_id for payment in payments],
        [parse_id(name) if name else None for name in named],
        named,
        [payment.customer_id for payment in payments],
    )
    found: list[Owner | None] = [None] * len(payments)
    for row in rows:
        found[row["ordinal"] - 1] = Owner(row["id"], row["currency"])
    return found


async def bind_payments(
    connection: Connection, bindings: Sequence[tuple[PaymentCaptured, BoundPayment]]
) -> None:
    """Bind payments to organizations, those that no earlier event has bound."""
    ordered = sorted(bindings, key=lambda binding: binding[0].payment_intent_id)
    await connection.execute(
        QUERIES.bind_payments,
        [payment.payment_intent_id for payment, _ in ordered],
        [bound.organization_id for _, bound in ordered],
        [bound.amount_minor for _, bound in ordered],
        [bound.currency for _, bound in ordered],
        [bound.credits for _, bound in ordered],
        [payment.customer_id for payment, _ in ordered],
        [payment.charge_id for payment, _ in ordered],
    )


async def bound_payments(
    connection: Connection, payments: Sequence[PaymentCaptured]
) -> dict[str, BoundPayment]:
    """Return the bindings of payments by PaymentIntent, as the first event made them."""
    rows = await connection.fetch(
        QUERIES.bound_payments, [payment.payment_intent_id for payment in payments]
    )
    return {
        row["payment_intent_id"]: BoundPayment(
            row["organization_id"], row["amount_minor"], row["currency"], row["credits"]
        )
        for row in rows
    }


async def close_purchases(
    connection: Connection, ended: Sequence[PaymentCaptured | CheckoutClosed]
) -> None:
    """Settle the purchases that these events are about."""
    paid = [event if isinstance(event, PaymentCaptured) else None for event in ended]
    await connection.execute(
        QUERIES.close_purchases,
        [event.checkout_session_id for event in ended],
        [payment.purchase_id if payment else None for payment in paid],
        [payment.payment_intent_id if payment else None for payment in paid],
        ["paid" if isinstance(event, PaymentCaptured) else event.state for event in ended],
    )
