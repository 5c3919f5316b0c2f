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
    """Store a locked payment's disputes; say which changed by this, and how."""
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
    connection: Connection, warned: FraudWarningReceived, at: datetime
) -> UUID | None:
    """Store a fraud warning; its organization, or None where it was known or has no payment."""
    organization_id: UUID | None = await connection.fetchval(
        QUERIES.save_fraud_warning,
        warned.warning_id,
        warned.payment_intent_id,
        warned.charge_id,
        warned.fraud_type,
        at,
    )
    return organization_id


async def warned_organization(connection: Connection, warned: FraudWarningReceived) -> UUID | None:
    """Return the organization whose payment a warning is about, if it is known."""
    organization_id: UUID | None = await connection.fetchval(
        QUERIES.warned_organization, warned.payment_intent_id, warned.charge_id
    )
    return organization_id


async def attempt_organization(connection: Connection, moved: PaymentIntentUpdated) -> UUID | None:
    """Return the organization whose auto-recharge made a payment, if one did."""
    organization_id: UUID | None = await connection.fetchval(
        QUERIES.attempt_organization, moved.payment_intent_id, moved.attempt_id
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
    """Lock and return the organization that something on file belongs to; None where none does.

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
    """Lock an organization, under which what it has on file changes."""
    await connection.execute(QUERIES.lock_organization, organization_id)


async def save_seen_payment_methods(
    connection: Connection, seen: Sequence[tuple[str, UUID, str, str, str | None, str]]
) -> None:
    """Note payment methods: each is (id, organization, customer, type, mandate, account)."""
    await connection.execute(QUERIES.save_seen_payment_methods, *map(list, zip(*seen, strict=True)))


async def stored_payment_methods(
    connection: Connection,
    payment_method_id: str,
    organization_id: UUID,
    fingerprint: str | None = None,
) -> list[StoredPaymentMethod]:
    """Return a payment method and the organization's others with a fingerprint, as stored."""
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
    """Return the payment method that an organization would be charged with now."""
    method: str | None = await connection.fetchval(QUERIES.charged_method, organization_id)
    return method


async def save_payment_method(
    connection: Connection,
    organization_id: UUID,
    card: PaymentMethodUpdated,
    details: MethodDetails,
    account: str,
) -> bool:
    """Describe a payment method; False where it is detached, or a newer event has described it."""
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
    """Take a payment method off file; return whether it was not off file before."""
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
    """Take everything of a customer off file; return whether it was the organization's own."""
    customer_id = deleted.customer_id
    await connection.execute(
        QUERIES.detach_all, organization_id, customer_id, account, deleted.as_of
    )
    own = await connection.fetchval(QUERIES.forget_customer, organization_id, customer_id, account)
    return own is not None


async def has_payment_method(connection: Connection, organization_id: UUID) -> bool:
    """Whether an organization has anything on file."""
    found: bool = await connection.fetchval(QUERIES.has_payment_method, organization_id)
    return found


async def claim_undescribed_payment_methods(
    connection: Connection, *, rows_max: int, lease: timedelta
) -> list[UndescribedPaymentMethod]:
    """Take payment methods that nothing has described; no other gets them before the lease ends."""
    rows = await connection.fetch(QUERIES.claim_undescribed_payment_methods, rows_max, lease)
    return [UndescribedPaymentMethod(**row) for row in rows]


async def undescribed_payment_methods(
    connection: Connection, organization_id: UUID, *, rows_max: int
) -> list[UndescribedPaymentMethod]:
    """Read what an organization has on file and nothing has described, the newest first."""
    rows = await connection.fetch(QUERIES.undescribed_payment_methods, organization_id, rows_max)
    return [UndescribedPaymentMethod(**row) for row in rows]


async def default_method(
    connection: Connection, organization_id: UUID
) -> tuple[datetime | None, str | None]:
    """Return when Stripe last said which payment method is the default, and which that is."""
    row = await connection.fetchrow(QUERIES.default_method, organization_id)
    return (row["as_of"], row["id"]) if row else (None, None)


async def save_default_payment_method(
    connection: Connection, organization_id: UUID, update: DefaultPaymentMethodChanged, account: str
) -> None:
    """Make a payment method the default of a locked organization; None: it has none."""
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
    """Note a mandate; return the organization, or None where the payment method is unknown."""
    organization_id: UUID | None = await connection.fetchval(
        QUERIES.save_mandate, update.payment_method_id, update.mandate_id, update.active, account
    )
    return organization_id


async def stored_subscription(
    connection: Connection, subscription_id: str
) -> SubscriptionUpdated | None:
    """Return a subscription as it is stored."""
    row = await connection.fetchrow(QUERIES.stored_subscription, subscription_id)
    return SubscriptionUpdated(customer_id=None, named_organization=None, **row) if row else None


async def save_subscription(
    connection: Connection, organization_id: UUID, update: SubscriptionUpdated, *, answered: bool
) -> None:
    """Store a subscription, unless a newer event has told of it.

    `answered`: it is Stripe's answer to which of two events of one second is right.
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
