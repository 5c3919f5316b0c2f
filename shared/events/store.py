"""The SQL that joins events, payments and organizations."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from shared.db.queries import beside
from shared.events.model import (
    BoundPayment,
    CheckoutClosed,
    FraudWarned,
    Owner,
    PaymentCaptured,
    PaymentLevel,
)
from shared.ids import parse_id
from shared.payments import rules as payments
from shared.payments.objects import Dispute

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


async def clock(connection: Connection) -> datetime:
    """Return PostgreSQL's clock, which all workers share."""
    moment: datetime = await connection.fetchval(QUERIES.clock)
    return moment


async def lock_payment(connection: Connection, payment_intent_id: str) -> PaymentLevel | None:
    """Lock a bound payment; None where no event has bound it."""
    row = await connection.fetchrow(QUERIES.lock_payment, payment_intent_id)
    return PaymentLevel(**row) if row else None


async def record_level(
    connection: Connection, payment_intent_id: str, as_of: datetime, charge_id: str | None
) -> None:
    """Remember when Stripe was asked, and the charge where it was not known."""
    await connection.execute(QUERIES.record_level, payment_intent_id, as_of, charge_id)


async def keep_disputes(
    connection: Connection,
    organization_id: UUID,
    payment_intent_id: str,
    disputes: Sequence[Dispute],
    *,
    currency: str,
) -> tuple[set[str], set[str]]:
    """Store a locked payment's disputes; return the ids that were opened and closed by this."""
    rows = await connection.fetch(
        QUERIES.keep_disputes,
        organization_id,
        payment_intent_id,
        [dispute.id for dispute in disputes],
        [dispute.amount for dispute in disputes],
        [dispute.currency or currency for dispute in disputes],
        [dispute.status for dispute in disputes],
        [dispute.reason for dispute in disputes],
        [datetime.fromtimestamp(dispute.created, UTC) for dispute in disputes],
        [payments.is_closed(dispute) for dispute in disputes],
    )
    opened = {row["id"] for row in rows if row["opened"]}
    return opened, {row["id"] for row in rows if row["closed"]}


async def keep_warning(connection: Connection, warned: FraudWarned, at: datetime) -> UUID | None:
    """Store a fraud warning; its organization, or None where it was known or has no payment."""
    organization_id: UUID | None = await connection.fetchval(
        QUERIES.keep_warning,
        warned.warning_id,
        warned.payment_intent_id,
        warned.charge_id,
        warned.fraud_type,
        at,
    )
    return organization_id


async def warned_organization(connection: Connection, warned: FraudWarned) -> UUID | None:
    """Return the organization whose payment a warning is about, if it is known."""
    organization_id: UUID | None = await connection.fetchval(
        QUERIES.warned_organization, warned.payment_intent_id, warned.charge_id
    )
    return organization_id
