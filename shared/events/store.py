"""The SQL that joins events, payments and organizations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from shared.db.queries import beside
from shared.events.model import (
    CustomerDeleted,
    DefaultPaymentMethodChanged,
    FraudWarningReceived,
    MandateUpdated,
    PaymentIntentUpdated,
    PaymentMethodDetached,
    PaymentMethodUpdated,
    StoredPaymentMethod,
    SubscriptionUpdated,
    UndescribedPaymentMethod,
)
from shared.ids import parse_id
from shared.payments import rules as payments
from shared.payments.objects import Dispute, MethodDetails

if TYPE_CHECKING:
    from shared.db.pool import Connection

QUERIES = beside(__file__)


async def clock(connection: Connection) -> datetime:
    """Return PostgreSQL's clock, which all workers share."""
    moment: datetime = await connection.fetchval(QUERIES.clock)
    return moment


@dataclass(frozen=True, slots=True)
class StoredDisputes:
    """Which disputes a statement opened and closed, and which were inquiries before it."""

    opened: frozenset[str]
    closed: frozenset[str]
    inquiries: frozenset[str]


async def save_disputes(
    connection: Connection,
    organization_id: UUID,
    payment_intent_id: str,
    disputes: Sequence[Dispute],
    *,
    currency: str,
) -> StoredDisputes:
    """Store a locked payment's disputes; return which opened or closed by this."""
    rows = await connection.fetch(
        QUERIES.save_disputes,
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
    return StoredDisputes(
        opened=frozenset(row["id"] for row in rows if row["opened"]),
        closed=frozenset(row["id"] for row in rows if row["closed"]),
        inquiries=frozenset(row["id"] for row in rows if row["was_inquiry"]),
    )


async def save_fraud_warning(
    connection: Connection, warning: FraudWarningReceived, at: datetime
) -> UUID | None:
    """Store a fraud warning; return its organization, or None if it is known or unmatched."""
    organization_id: UUID | None = await connection.fetchval(
        QUERIES.save_fraud_warning,
        warning.warning_id,
        warning.payment_intent_id,
        warning.charge_id,
        warning.fraud_type,
        at,
    )
    return organization_id


async def warned_organization(connection: Connection, warning: FraudWarningReceived) -> UUID | None:
    """Return the organization of the payment that a warning is about, if known."""
    organization_id: UUID | None = await connection.fetchval(
        QUERIES.warned_organization, warning.payment_intent_id, warning.charge_id
    )
    return organization_id


async def attempt_organization(connection: Connection, update: PaymentIntentUpdated) -> UUID | None:
    """Return the organization whose auto-recharge created a payment, if any."""
    organization_id: UUID | None = await connection.fetchval(
        QUERIES.attempt_organization, update.payment_intent_id, update.attempt_id
    )
    return organization_id


async def lock_customer_organization(
    connection: Connection,
    customer_id: str | None,
    *,
    account: str = "",
    named: str | None = None,
    payment_method_id: str | None = None,
) -> UUID | None:
    """Lock and return the organization of a customer or payment method; None: unknown.

    `account` is the Stripe account of the customer and the payment method.
    """
    organization_id: UUID | None = await connection.fetchval(
        QUERIES.customer_organization,
        parse_id(named) if named else None,
        named,
        customer_id,
        payment_method_id,
        account,
    )
    return organization_id


async def lock_organization(connection: Connection, organization_id: UUID) -> None:
    """Lock an organization; its payment methods change only under this lock."""
    await connection.execute(QUERIES.lock_organization, organization_id)


async def save_seen_payment_methods(
    connection: Connection, seen: Sequence[tuple[str, UUID, str, str, str | None, str]]
) -> None:
    """Store ids of payment methods: (id, organization, customer, type, mandate, account)."""
    await connection.execute(QUERIES.save_seen_payment_methods, *map(list, zip(*seen, strict=True)))


async def stored_payment_methods(
    connection: Connection,
    payment_method_id: str,
    organization_id: UUID,
    fingerprint: str | None = None,
) -> list[StoredPaymentMethod]:
    """Return a stored payment method and the organization's others with a fingerprint."""
    rows = await connection.fetch(
        QUERIES.stored_payment_methods, payment_method_id, organization_id, fingerprint
    )
    return [
        StoredPaymentMethod(
            id=row["id"],
            customer_id=row["customer_id"],
            type=row["type"],
            details=MethodDetails(
                brand=row["brand"],
                last4=row["last4"],
                exp_month=row["exp_month"],
                exp_year=row["exp_year"],
                fingerprint=row["fingerprint"],
            ),
            as_of=row["as_of"],
            detached=row["detached"],
        )
        for row in rows
    ]


async def charged_method(connection: Connection, organization_id: UUID) -> str | None:
    """Return the payment method that a charge would use now."""
    method: str | None = await connection.fetchval(QUERIES.charged_method, organization_id)
    return method


async def save_payment_method(
    connection: Connection,
    organization_id: UUID,
    card: PaymentMethodUpdated,
    details: MethodDetails,
    account: str,
) -> bool:
    """Store a payment method's details; False if it is detached or newer ones are stored."""
    row = await connection.fetchrow(
        QUERIES.save_payment_method,
        card.payment_method_id,
        organization_id,
        card.customer_id,
        card.type,
        details.brand or details.bank_name,
        details.last4,
        details.exp_month,
        details.exp_year,
        details.fingerprint,
        account,
        card.as_of,
    )
    return row is not None


async def detach_payment_method(
    connection: Connection, organization_id: UUID, card: PaymentMethodDetached, account: str
) -> bool:
    """Detach a payment method; return whether it was attached before."""
    row = await connection.fetchrow(
        QUERIES.detach_payment_method,
        card.payment_method_id,
        organization_id,
        card.customer_id or "",
        card.type,
        account,
        card.as_of,
    )
    return row is not None


async def delete_customer(
    connection: Connection, organization_id: UUID, deleted: CustomerDeleted, account: str
) -> bool:
    """Detach all of a customer's methods; return whether it was the organization's customer."""
    customer_id = deleted.customer_id
    await connection.execute(
        QUERIES.detach_all, organization_id, customer_id, account, deleted.as_of
    )
    own = await connection.fetchval(QUERIES.forget_customer, organization_id, customer_id, account)
    return own is not None


async def has_payment_method(connection: Connection, organization_id: UUID) -> bool:
    """Whether an organization has a payment method on file."""
    exists: bool = await connection.fetchval(QUERIES.has_payment_method, organization_id)
    return exists


async def claim_undescribed_payment_methods(
    connection: Connection, *, rows_max: int, lease: timedelta
) -> list[UndescribedPaymentMethod]:
    """Lease undescribed payment methods; other workers skip them until the lease ends."""
    rows = await connection.fetch(QUERIES.claim_undescribed_payment_methods, rows_max, lease)
    return [UndescribedPaymentMethod(**row) for row in rows]


async def undescribed_payment_methods(
    connection: Connection, organization_id: UUID, *, rows_max: int
) -> list[UndescribedPaymentMethod]:
    """Return an organization's undescribed payment methods, the newest first."""
    rows = await connection.fetch(QUERIES.undescribed_payment_methods, organization_id, rows_max)
    return [UndescribedPaymentMethod(**row) for row in rows]


async def default_method(
    connection: Connection, organization_id: UUID
) -> tuple[datetime | None, str | None]:
    """Return the default payment method, after the time at which Stripe reported it."""
    row = await connection.fetchrow(QUERIES.default_method, organization_id)
    return (row["as_of"], row["id"]) if row else (None, None)


async def save_default_payment_method(
    connection: Connection, organization_id: UUID, update: DefaultPaymentMethodChanged, account: str
) -> None:
    """Set or clear (None) the default payment method of a locked organization."""
    await connection.execute(QUERIES.clear_default, organization_id, update.as_of)
    if update.payment_method_id is not None:
        await connection.execute(
            QUERIES.set_default,
            update.payment_method_id,
            organization_id,
            update.customer_id,
            update.as_of,
            account,
        )


async def save_mandate(connection: Connection, update: MandateUpdated, account: str) -> UUID | None:
    """Store a mandate; return the organization, or None if the payment method is unknown."""
    organization_id: UUID | None = await connection.fetchval(
        QUERIES.save_mandate, update.payment_method_id, update.mandate_id, update.active, account
    )
    return organization_id


async def stored_subscription(
    connection: Connection, subscription_id: str
) -> SubscriptionUpdated | None:
    """Return a stored subscription."""
    row = await connection.fetchrow(QUERIES.stored_subscription, subscription_id)
    return SubscriptionUpdated(customer_id=None, named_organization=None, **row) if row else None


async def save_subscription(
    connection: Connection, organization_id: UUID, update: SubscriptionUpdated, *, answered: bool
) -> None:
    """Store a subscription, unless a newer state is stored.

    `answered`: the state is Stripe's answer, read because two events of one second differ.
    """
    await connection.execute(
        QUERIES.save_subscription,
        update.subscription_id,
        organization_id,
        update.status,
        update.plan,
        update.started_at,
        update.ends_at,
        update.current_period_end,
        update.as_of,
        answered,
    )
