"""The SQL of closing an organization."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from shared.db.queries import beside

if TYPE_CHECKING:
    from shared.db.pool import Connection

QUERIES = beside(__file__)


async def open_checkouts(connection: Connection, organization_id: UUID) -> int:
    """Return the number of checkouts that can still be paid."""
    count: int = await connection.fetchval(QUERIES.open_checkouts, organization_id)
    return count


async def active_holds(connection: Connection, organization_id: UUID, *, rows_max: int) -> int:
    """Return the number of active holds, counted up to a maximum."""
    count: int = await connection.fetchval(QUERIES.active_holds, organization_id, rows_max)
    return count


async def release_holds(connection: Connection, organization_id: UUID) -> int:
    """Release the active holds under the account's lock; return how many."""
    released: int = await connection.fetchval(QUERIES.release_holds, organization_id)
    return released


async def charging_subscriptions(connection: Connection, organization_id: UUID) -> int:
    """Return the number of subscriptions that Stripe goes on charging."""
    count: int = await connection.fetchval(QUERIES.charging_subscriptions, organization_id)
    return count
