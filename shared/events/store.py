"""The SQL that joins events, payments and organizations."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from shared.db.queries import beside
from shared.events.model import (
    AttemptMoved,
    BoundPayment,
    CardDetached,
    CardTold,
    CheckoutClosed,
    CustomerDeleted,
    DefaultTold,
    FraudWarned,
    MandateTold,
    Owner,
    PaymentCaptured,
    PaymentLevel,
    SubscriptionTold,
)
from shared.ids import parse_id
from shared.payments import rules as payments
from shared.payments.objects import Dispute, MethodDetails

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


async def attempt_owner(connection: Connection, moved: AttemptMoved) -> UUID | None:
    """Return the organization whose auto-recharge made a payment, if one did."""
    organization_id: UUID | None = await connection.fetchval(
        QUERIES.attempt_owner, moved.payment_intent_id, moved.attempt_id
    )
    return organization_id


async def lock_customer_owner(
    connection: Connection,
    customer_id: str | None,
    *,
    named: str | None = None,
    payment_method_id: str | None = None,
) -> UUID | None:
    """Lock and return the organization that something on file belongs to; None where none does."""
    organization_id: UUID | None = await connection.fetchval(
        QUERIES.customer_owner,
        parse_id(named) if named else None,
        named,
        customer_id,
        payment_method_id,
    )
    return organization_id


async def keep_seen_cards(
    connection: Connection, seen: Sequence[tuple[str, UUID, str, str, str | None]]
) -> None:
    """Note payment methods: each is (id, organization, customer, type, mandate)."""
    await connection.execute(QUERIES.keep_seen_cards, *map(list, zip(*seen, strict=True)))


async def keep_card(
    connection: Connection, organization_id: UUID, card: CardTold, details: MethodDetails
) -> bool:
    """Describe a payment method; return whether the organization never had this card before."""
    new: bool | None = await connection.fetchval(
        QUERIES.keep_card,
        card.payment_method_id,
        organization_id,
        card.customer_id,
        card.type,
        details.brand or details.bank_name,
        details.last4,
        details.exp_month,
        details.exp_year,
        details.fingerprint,
        card.as_of,
    )
    return bool(new)


async def detach_card(connection: Connection, organization_id: UUID, card: CardDetached) -> bool:
    """Take a payment method off file; return whether it was not off file before."""
    row = await connection.fetchrow(
        QUERIES.detach_card,
        card.payment_method_id,
        organization_id,
        card.customer_id or "",
        card.type,
        card.as_of,
    )
    return row is not None


async def delete_customer(
    connection: Connection, organization_id: UUID, deleted: CustomerDeleted
) -> None:
    """Take everything of a customer off file, and the customer off the organization."""
    await connection.execute(
        QUERIES.detach_all, organization_id, deleted.customer_id, deleted.as_of
    )
    await connection.execute(QUERIES.forget_customer, organization_id, deleted.customer_id)


async def has_card(connection: Connection, organization_id: UUID) -> bool:
    """Whether an organization has anything on file."""
    found: bool = await connection.fetchval(QUERIES.has_card, organization_id)
    return found


async def choose_default(connection: Connection, organization_id: UUID, told: DefaultTold) -> None:
    """Make a payment method the default of a locked organization, unless a newer event chose."""
    newest: datetime | None = await connection.fetchval(QUERIES.default_as_of, organization_id)
    if newest is not None and newest > told.as_of:
        return
    await connection.execute(QUERIES.clear_default, organization_id, told.as_of)
    if told.payment_method_id is not None:
        await connection.execute(
            QUERIES.set_default,
            told.payment_method_id,
            organization_id,
            told.customer_id,
            told.as_of,
        )


async def keep_mandate(connection: Connection, told: MandateTold) -> UUID | None:
    """Note a mandate; return the organization, or None where the payment method is unknown."""
    organization_id: UUID | None = await connection.fetchval(
        QUERIES.keep_mandate, told.payment_method_id, told.mandate_id, told.active
    )
    return organization_id


async def keep_subscription(
    connection: Connection, organization_id: UUID, told: SubscriptionTold
) -> None:
    """Store a subscription, unless a newer event has told of it."""
    await connection.execute(
        QUERIES.keep_subscription,
        told.subscription_id,
        organization_id,
        told.status,
        told.plan,
        told.started_at,
        told.ends_at,
        told.current_period_end,
        told.as_of,
    )
