"""The SQL of top-ups and their daily limits."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

from shared.db.queries import beside
from shared.organizations.model import Organization
from shared.recharge.attempts.store import charging_attempt
from shared.recharge.model import (
    ChargingAttempt,
    Lease,
    TopUps,
)
from shared.recharge.rules import ChargeAmount

if TYPE_CHECKING:
    from shared.db.pool import Connection

QUERIES = beside(__file__)


async def top_ups_of_organization(
    connection: Connection, organization: Organization, since: datetime
) -> TopUps:
    """Return an organization's top-ups since a time that were charged or may still be."""
    row = await connection.fetchrow(QUERIES.top_ups_of_organization, organization.id, since)
    assert row is not None  # noqa: S101 - an aggregate always returns a row
    return TopUps(organization.currency, row["count"], row["amount_minor"])


async def top_ups_of_key(
    connection: Connection, key_id: UUID, organization_id: UUID, since: datetime
) -> list[TopUps]:
    """Return the top-ups of a key by currency, except a waiting one of this organization."""
    rows = await connection.fetch(QUERIES.top_ups_of_key, key_id, organization_id, since)
    return [TopUps(row["currency"], row["count"], row["amount_minor"]) for row in rows]


async def lock_key(connection: Connection, key_id: UUID) -> None:
    """Lock an API key until the end of the transaction; the account is locked before it."""
    await connection.execute(QUERIES.lock_key, key_id)


async def recent_declines(connection: Connection, organization_id: UUID, since: datetime) -> int:
    """Count the recent declined top-ups with the payment method that would be charged now."""
    count: int = await connection.fetchval(QUERIES.recent_declines, organization_id, since)
    return count


async def cancel_armed(connection: Connection, organization_id: UUID, now: datetime) -> UUID | None:
    """Cancel an attempt that is only armed and not leased; return its id."""
    attempt_id: UUID | None = await connection.fetchval(QUERIES.cancel_armed, organization_id, now)
    return attempt_id


async def begin_top_up(  # noqa: PLR0913 - the columns of a new attempt
    connection: Connection,
    organization_id: UUID,
    attempt_id: UUID,
    price: ChargeAmount,
    *,
    currency: str,
    credits_per_unit: Decimal,
    now: datetime,
    token: UUID,
    lease: timedelta,
    key_id: UUID | None = None,
) -> Lease[ChargingAttempt] | None:
    """Store a top-up under a lease; None: no card, or another attempt is live."""
    row = await connection.fetchrow(
        QUERIES.begin_top_up, organization_id, attempt_id, price.credits, price.amount_minor,
        currency, now, token, lease, credits_per_unit, key_id,
    )  # fmt: skip
    return Lease(charging_attempt(row), token) if row else None
