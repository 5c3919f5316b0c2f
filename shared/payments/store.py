"""The purchases' SQL."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from shared.db.queries import beside
from shared.payments.model import Price

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__)
# A Checkout Session lasts 24 hours; its last webhook may take a while.
OPEN_FOR = timedelta(hours=25)


async def open_purchase(
    connection: Connection, purchase_id: UUID, organization_id: UUID, price: Price
) -> asyncpg.Record | None:
    """Record a purchase that is about to be offered; return its price as it was first opened.

    None: it has been paid.
    """
    return await connection.fetchrow(
        QUERIES.open_purchase,
        purchase_id,
        organization_id,
        price.amount_minor,
        price.currency,
        price.credits,
        price.credits_per_unit,
        OPEN_FOR,
    )


async def refuse_purchase(connection: Connection, purchase_id: UUID) -> None:
    """Close a purchase that Stripe has refused to offer."""
    await connection.execute(QUERIES.refuse_purchase, purchase_id)


async def close_due(connection: Connection, *, rows_max: int) -> int:
    """Close purchases that nobody has paid in time; return how many."""
    count: int = await connection.fetchval(QUERIES.close_due, rows_max)
    return count


async def forget_customer(connection: Connection, organization_id: UUID, customer_id: str) -> None:
    """Forget a Stripe customer and detach its payment methods, in the caller's transaction."""
    await connection.execute(QUERIES.forget_customer, organization_id, customer_id)
    await connection.execute(QUERIES.lock_account, organization_id)
    await connection.execute(QUERIES.detach_cards, organization_id, customer_id)


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
) -> asyncpg.Record | None:
    """Return the address of a payment's receipt, if it is known here, and its Stripe account."""
    return await connection.fetchrow(QUERIES.receipt, payment_intent_id, organization_id)


async def keep_receipt(connection: Connection, payment_intent_id: str, url: str) -> None:
    """Remember the address of a payment's receipt."""
    await connection.execute(QUERIES.keep_receipt, payment_intent_id, url)
