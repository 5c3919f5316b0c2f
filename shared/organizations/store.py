"""Organizations in the database."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from shared.db.queries import beside
from shared.organizations.model import Organization

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__)


async def create(
    connection: Connection,
    organization_id: UUID,
    *,
    slug: str,
    name: str,
    currency: str,
    email: str | None,
) -> Organization | None:
    """Insert an organization and its account; None where its slug or id is taken."""
    row = await connection.fetchrow(QUERIES.create, organization_id, slug, name, currency, email)
    if row is None:
        return None
    await connection.execute(QUERIES.create_account, organization_id)
    return Organization(**row)


async def by_reference(
    connection: Connection, organization_id: UUID | None, slug: str
) -> Organization | None:
    """Find an organization by id or slug."""
    row = await connection.fetchrow(QUERIES.by_reference, organization_id, slug)
    return Organization(**row) if row else None


async def change(
    connection: Connection,
    organization_id: UUID,
    *,
    name: str | None,
    email: str | None,
    clear_email: bool,
) -> Organization | None:
    """Change an organization's name or email."""
    row = await connection.fetchrow(QUERIES.change, organization_id, name, email, clear_email)
    return Organization(**row) if row else None


async def currency_in_use(connection: Connection, currencies: Collection[str]) -> str | None:
    """Return one of these currencies that an organization has, if any."""
    currency: str | None = await connection.fetchval(QUERIES.currency_in_use, list(currencies))
    return currency


async def show(
    connection: Connection, organization_id: UUID | None, slug: str
) -> asyncpg.Record | None:
    """Return an organization with its balance and held credits."""
    return await connection.fetchrow(QUERIES.show, organization_id, slug)


async def list_page(
    connection: Connection, *, after: UUID | None, limit: int
) -> list[asyncpg.Record]:
    """Return a page of organizations with their balances, oldest first."""
    return await connection.fetch(QUERIES.list_page, after, limit)


async def closed_at(connection: Connection, organization_id: UUID) -> datetime | None:
    """Return when an organization was closed; None while it is open."""
    time: datetime | None = await connection.fetchval(QUERIES.closed_at, organization_id)
    return time


async def is_erased(connection: Connection, organization_id: UUID) -> bool:
    """Return whether the personal data of an organization was erased."""
    return bool(await connection.fetchval(QUERIES.is_erased, organization_id))


async def lock_open(connection: Connection, organization_id: UUID) -> bool:
    """Return whether an organization is open, and keep it so until the transaction ends."""
    return await connection.fetchval(QUERIES.lock_open, organization_id) is None


async def set_closed(connection: Connection, organization_id: UUID, *, closed: bool) -> bool:
    """Close an organization or open it again; return whether that changed it."""
    statement = QUERIES.close if closed else QUERIES.reopen
    return await connection.fetchval(statement, organization_id) is not None


async def lock_without_customer(connection: Connection, organizations: Collection[UUID]) -> None:
    """Lock those of these organizations that have no Stripe customer yet."""
    await connection.execute(QUERIES.lock_without_customer, list(organizations))


async def set_customers(
    connection: Connection, customers: dict[UUID, str], *, account: str = ""
) -> None:
    """Set the Stripe customer, and its account, of organizations that have none yet."""
    await connection.execute(
        QUERIES.set_customers, list(customers), list(customers.values()), account
    )
