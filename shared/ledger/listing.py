"""Lists of transactions by page number, of one organization or of all, filtered or not.

What a page costs: without filters, one organization's page is read by its numbers, which have no
gaps, so that every page costs the same. Of all organizations, the ids before it are walked through
in an index. With filters, the count looks at every row that the filters leave to be looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from shared.db.queries import beside
from shared.ledger.filters import Filter, conditions

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__, "listing.sql")
_EVERY = "WHERE TRUE"


@dataclass(frozen=True, slots=True)
class Listed:
    """A page, newest first, and how many rows there are in all."""

    count: int
    rows: Sequence[asyncpg.Record]


async def find(connection: Connection, transaction_id: UUID) -> asyncpg.Record | None:
    """Return a row by its id, in any organization, as lists have it."""
    return await connection.fetchrow(QUERIES.find_listed, transaction_id)


async def list_page(
    connection: Connection,
    organization_id: UUID | None,
    filters: Sequence[Filter],
    *,
    offset: int,
    limit: int,
) -> Listed:
    """Return a page of one organization's rows, or (None) of all, that pass every filter."""
    if filters:
        return await _filtered(connection, organization_id, filters, offset, limit)
    count: int = await connection.fetchval(QUERIES.count_listed, organization_id)
    if organization_id is None:
        return Listed(count, await connection.fetch(QUERIES.list_all, offset, limit))
    newest = count - offset
    rows = await connection.fetch(QUERIES.list_of, organization_id, newest, newest - limit)
    return Listed(count, rows)


async def _filtered(
    connection: Connection,
    organization_id: UUID | None,
    filters: Sequence[Filter],
    offset: int,
    limit: int,
) -> Listed:
    counting, asked = conditions(filters, parameters_before=1)
    count: int = await connection.fetchval(
        _where(QUERIES.count_filtered, counting), organization_id, *asked
    )
    if offset >= count:
        return Listed(count, [])
    statement = QUERIES.list_filtered if organization_id is None else QUERIES.list_filtered_of
    listing, asked = conditions(filters, parameters_before=3)
    rows = await connection.fetch(
        _where(statement, listing), organization_id, offset, limit, *asked
    )
    return Listed(count, rows)


def _where(statement: str, condition: str) -> str:
    assert statement.count(_EVERY) == 1, "the statement has one place for filters"  # noqa: S101
    return statement.replace(_EVERY, f"WHERE {condition}")
