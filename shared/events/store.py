"""The SQL that joins events, payments and organizations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from shared.db.queries import beside
from shared.events.model import (
    AttemptMoved,
    CardDetached,
    CardTold,
    CustomerDeleted,
    DefaultTold,
    FraudWarned,
    MandateTold,
    SubscriptionTold,
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


async def keep_disputes(
    connection: Connection,
    organization_id: UUID,
    payment_intent_id: str,
    disputes: Sequence[Dispute],
    *,
    currency: str,
) -> StoredDisputes:
    """Store a locked payment's disputes; say which changed by this, and how."""
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
    return StoredDisputes(
        opened=frozenset(row["id"] for row in rows if row["opened"]),
        closed=frozenset(row["id"] for row in rows if row["closed"]),
        inquiries=frozenset(row["id"] for row in rows if row["was_inquiry"]),
    )


async def has_open_inquiry(connection: Connection, organization_id: UUID) -> bool:
    """Return whether a payment of an organization is under inquiry."""
    found: bool = await connection.fetchval(QUERIES.has_open_inquiry, organization_id)
    return found


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
    connection: Connection, seen: Sequence[tuple[str, UUID, str, str, str | None, str]]
) -> None:
    """Note payment methods: each is (id, organization, customer, type, mandate, account)."""
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
