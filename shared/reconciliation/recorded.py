"""What is recorded here of the objects of a page of Stripe's lists, and pages of our own lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from shared.db.queries import beside
from shared.ledger import keys
from shared.reconciliation.model import RecordedPayment, StoredCustomer, StoredMethod

if TYPE_CHECKING:
    from shared.db.pool import Connection

QUERIES = beside(__file__, "recorded.sql")


async def stored_events(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Return which of these events are stored."""
    return {row["id"] for row in await connection.fetch(QUERIES.stored_events, ids)}


async def payments(
    connection: Connection, named: Sequence[tuple[str, UUID | None, UUID | None]]
) -> dict[str, RecordedPayment]:
    """Return what is recorded of payments.

    Each is named by its PaymentIntent, and by the organization and the recharge attempt that its
    metadata name.
    """
    columns = [list(column) for column in zip(*named, strict=True)] or [[], [], []]
    rows = await connection.fetch(QUERIES.recorded_payments, *columns, keys.PAYMENT)
    return {row["payment_intent_id"]: _payment(row) for row in rows}


async def dispute_statuses(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    """Return the recorded status of disputes."""
    rows = await connection.fetch(QUERIES.dispute_statuses, ids)
    return {row["id"]: row["status"] for row in rows}


async def save_seen(connection: Connection, run_id: UUID, ids: Sequence[str]) -> None:
    """Remember which credited payments a run has seen at Stripe."""
    await connection.execute(QUERIES.save_seen, run_id, ids)


@dataclass(frozen=True, slots=True)
class CreditedPayment:
    """A credited payment, and whether the run has seen it at Stripe."""

    payment: RecordedPayment
    created_at: datetime
    seen: bool


async def credited(
    connection: Connection,
    run_id: UUID,
    period: tuple[datetime, datetime],
    after: tuple[datetime, str],
    limit: int,
) -> list[CreditedPayment]:
    """Return the payments that were credited in a period, after a place in their order."""
    rows = await connection.fetch(QUERIES.credited_payments, run_id, *period, *after, limit)
    return [
        CreditedPayment(
            RecordedPayment(
                payment_intent_id=row["payment_intent_id"],
                organization_id=row["organization_id"],
                amount_minor=row["amount_minor"],
                currency=row["currency"],
                credits=row["credits"],
                reversed=row["reversed"],
                invoice_id=row["invoice_id"],
                posted=True,
                account=row["stripe_account"],
            ),
            row["created_at"],
            row["seen"],
        )
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class OpenDispute:
    """A dispute that is recorded as open."""

    id: str
    payment_intent_id: str
    organization_id: UUID
    status: str
    account: str


async def open_disputes(connection: Connection, after: str, limit: int) -> list[OpenDispute]:
    """Return disputes that are recorded as open, after one of them."""
    rows = await connection.fetch(QUERIES.open_disputes, after, limit)
    return [OpenDispute(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class OpenPurchase:
    """A purchase that is not paid."""

    id: UUID
    organization_id: UUID
    checkout_session_id: str
    closes_at: datetime
    account: str


async def open_purchases(
    connection: Connection, before: datetime, after: tuple[datetime, UUID], limit: int
) -> list[OpenPurchase]:
    """Return purchases from before a moment that are not paid, after a place in their order."""
    rows = await connection.fetch(QUERIES.open_purchases, before, *after, limit)
    return [OpenPurchase(*row) for row in rows]


async def customers(connection: Connection, after: UUID, limit: int) -> list[StoredCustomer]:
    """Return the Stripe customers of organizations, after one of these."""
    rows = await connection.fetch(QUERIES.customers, after, limit)
    return [StoredCustomer(*row) for row in rows]


async def methods(connection: Connection, after: str, limit: int) -> list[StoredMethod]:
    """Return payment methods, on file or not, after one of them."""
    rows = await connection.fetch(QUERIES.payment_methods, after, limit)
    return [StoredMethod(*row) for row in rows]


def _payment(row: Any) -> RecordedPayment:
    if row["organization_id"] is None:
        return RecordedPayment(
            payment_intent_id=row["payment_intent_id"],
            attempt_organization_id=row["attempt_organization_id"],
            attempt_state=row["attempt_state"],
            attempt_payment_intent_id=row["attempt_payment_intent_id"],
        )
    values = dict(row)
    return RecordedPayment(account=values.pop("stripe_account"), **values)
