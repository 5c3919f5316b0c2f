"""The purchases' SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from shared.db.queries import beside

if TYPE_CHECKING:
    from shared.db.pool import Connection

QUERIES = beside(__file__)


async def open_purchase(
    connection: Connection,
    purchase_id: UUID,
    organization_id: UUID,
    *,
    amount_minor: int,
    currency: str,
) -> None:
    """Record a purchase that is about to be offered."""
    await connection.execute(
        QUERIES.open_purchase, purchase_id, organization_id, amount_minor, currency
    )


async def keep_session(connection: Connection, purchase_id: UUID, session_id: str) -> None:
    """Remember the Checkout Session of a purchase."""
    await connection.execute(QUERIES.keep_session, purchase_id, session_id)
