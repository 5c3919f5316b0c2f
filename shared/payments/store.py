"""The purchases' SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from shared.db.queries import beside

if TYPE_CHECKING:
    import asyncpg

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


async def open_purchase_of(
    connection: Connection, organization_id: UUID, session_id: str | None
) -> asyncpg.Record | None:
    """Return an organization's open purchase: of a Checkout Session, or the newest."""
    return await connection.fetchrow(QUERIES.open_purchase_of, organization_id, session_id)


async def receipt(
    connection: Connection, payment_intent_id: str, organization_id: UUID
) -> str | None:
    """Return the address of a payment's receipt, if it is known here."""
    url: str | None = await connection.fetchval(QUERIES.receipt, payment_intent_id, organization_id)
    return url


async def keep_receipt(connection: Connection, payment_intent_id: str, url: str) -> None:
    """Remember the address of a payment's receipt."""
    await connection.execute(QUERIES.keep_receipt, payment_intent_id, url)
