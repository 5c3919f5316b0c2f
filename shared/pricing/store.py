"""Price books, assignments and discounts in the database."""

from __future__ import annotations

from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from shared.db.queries import beside
from shared.pricing.model import Activation, Assignment, Discount, OrganizationPricing

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__)


async def organization_pricing(
    connection: Connection, organization_id: UUID
) -> OrganizationPricing:
    """Return the books and discounts of an organization, those to come among them."""
    assignments = await connection.fetch(QUERIES.assignments, organization_id)
    discounts = await connection.fetch(QUERIES.discounts, organization_id)
    return OrganizationPricing(
        assignments=tuple(Assignment(**row) for row in assignments),
        discounts=tuple(Discount(**row) for row in discounts),
    )


async def activations(connection: Connection, name: str) -> tuple[Activation, ...]:
    """Return when each version of a book becomes valid."""
    return tuple(Activation(**row) for row in await connection.fetch(QUERIES.activations, name))


async def content(connection: Connection, name: str, version: int) -> dict[str, Any] | None:
    """Return the content of a version as it was stored."""
    found: str | None = await connection.fetchval(QUERIES.content, name, version)
    return None if found is None else msgspec.json.decode(found)


async def lock_book(
    connection: Connection, name: str, *, create: bool = False
) -> asyncpg.Record | None:
    """Lock a book until the transaction ends, and return its last version and the time."""
    if create:
        await connection.execute(QUERIES.create_book, name)
    return await connection.fetchrow(QUERIES.lock_book, name)


async def version_of(connection: Connection, name: str, digest: bytes) -> int | None:
    """Return the version of a book that has this content."""
    version: int | None = await connection.fetchval(QUERIES.version_of, name, digest)
    return version


async def add_version(
    connection: Connection,
    name: str,
    *,
    content: dict[str, Any],
    digest: bytes,
    prices: int,
    created_by: str,
) -> int:
    """Store the next version of a locked book, and return its number."""
    version: int = await connection.fetchval(
        QUERIES.add_version,
        name,
        msgspec.json.encode(content).decode(),
        digest,
        prices,
        created_by,
    )
    return version


async def activate(
    connection: Connection, name: str, version: int, active_from: datetime, *, created_by: str
) -> bool:
    """Add an activation; False where another one begins at that moment."""
    added = await connection.fetchval(QUERIES.activate, name, version, active_from, created_by)
    return added is not None


async def withdraw(connection: Connection, name: str, since: datetime) -> list[Activation]:
    """Withdraw the activations of a book from a moment on, and return them."""
    rows = await connection.fetch(QUERIES.withdraw, name, since)
    return sorted((Activation(**row) for row in rows), key=attrgetter("active_from"))


async def assign(
    connection: Connection,
    organization_id: UUID,
    name: str,
    valid_from: datetime,
    *,
    created_by: str,
) -> bool:
    """Give an organization a book from a moment on; False where another is given at that moment."""
    added = await connection.fetchval(QUERIES.assign, organization_id, name, valid_from, created_by)
    return added is not None


async def add_discount(
    connection: Connection, organization_id: UUID, discount: Discount, *, created_by: str
) -> bool:
    """Add a discount; False where its pattern has another from that moment on."""
    added = await connection.fetchval(
        QUERIES.add_discount,
        organization_id,
        discount.pattern,
        discount.valid_from,
        discount.percent,
        created_by,
    )
    return added is not None


async def now(connection: Connection) -> datetime:
    """Return the time of the transaction, by PostgreSQL's clock."""
    time: datetime = await connection.fetchval(QUERIES.now)
    return time


async def list_page(
    connection: Connection, *, after: tuple[str, int] | None, limit: int
) -> list[asyncpg.Record]:
    """Return a page of versions by name, the newest of each first, with their activations."""
    name, version = after or ("", 0)
    return await connection.fetch(QUERIES.list_page, name, version, limit)


async def versions(connection: Connection, name: str) -> list[asyncpg.Record]:
    """Return the versions of a book, newest first, with their activations."""
    return await connection.fetch(QUERIES.versions, name, None)


async def find_version(connection: Connection, name: str, version: int) -> asyncpg.Record:
    """Return a version that exists, with its activations."""
    (row,) = await connection.fetch(QUERIES.versions, name, version)
    return row
