"""Lists of transactions by page number, of one organization or of all, filtered or not.

The cost of a page. Unfiltered, of one organization: constant, since rows are read by `seq`, which
has no gaps. Unfiltered, of all organizations: the index entries before the page are skipped.
Filtered: the count reads every row that the filters' indexes do not exclude.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from shared.db.queries import beside
from shared.ledger.filters import Filter, conditions

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

    Row = asyncpg.Record | Mapping[str, Any]

QUERIES = beside(__file__, "listing.sql")
_PLACEHOLDER = "WHERE TRUE"


@dataclass(frozen=True, slots=True)
class Page:
    """A page, newest first, and how many rows there are in all."""

    count: int
    rows: Sequence[Row]


async def find(connection: Connection, transaction_id: UUID) -> asyncpg.Record | None:
    """Return a row by its id, in any organization, with the columns of a list."""
    return await connection.fetchrow(QUERIES.find_listed, transaction_id)


async def list_page(
    connection: Connection,
    organization_id: UUID | None,
    filters: Sequence[Filter],
    *,
    offset: int,
    limit: int,
) -> Page:
    """Return a page of the rows that pass every filter, of one organization or (None) of all."""
    if filters:
        return await _filtered(connection, organization_id, filters, offset, limit)
    count: int = await connection.fetchval(QUERIES.count_listed, organization_id)
    if organization_id is None:
        return Page(count, await _all(connection, offset, limit))
    newest = count - offset
    rows = await connection.fetch(QUERIES.list_of, organization_id, newest, newest - limit)
    return Page(count, rows)


async def _all(connection: Connection, offset: int, limit: int) -> list[dict[str, Any]]:
    """Return a page of all rows, with the number of its organization and the expiry of its grant.

    Three statements: a cluster joins no page of many organizations with other tables.
    """
    rows = await connection.fetch(QUERIES.list_all, offset, limit)
    owners = sorted({row["organization_id"] for row in rows})
    found = await connection.fetch(QUERIES.numbers, owners)
    numbers = {row["id"]: row["number"] for row in found}
    opened = [row for row in rows if row["amount"] > 0]
    found = await connection.fetch(
        QUERIES.expiries,
        [row["organization_id"] for row in opened],
        [row["grant_id"] for row in opened],
    )
    expiries = {row["id"]: row["expires_at"] for row in found}
    return [
        {
            **row,
            "number": numbers[row["organization_id"]],
            "expires_at": expiries.get(row["grant_id"]) if row["amount"] > 0 else None,
        }
        for row in rows
    ]


async def _filtered(
    connection: Connection,
    organization_id: UUID | None,
    filters: Sequence[Filter],
    offset: int,
    limit: int,
) -> Page:
    counting, parameters = conditions(filters, parameters_before=1)
    count: int = await connection.fetchval(
        _where(QUERIES.count_filtered, counting), organization_id, *parameters
    )
    if offset >= count:
        return Page(count, [])
    statement = QUERIES.list_filtered if organization_id is None else QUERIES.list_filtered_of
    listing, parameters = conditions(filters, parameters_before=3)
    rows = await connection.fetch(
        _where(statement, listing), organization_id, offset, limit, *parameters
    )
    return Page(count, rows)


def _where(statement: str, condition: str) -> str:
    assert statement.count(_PLACEHOLDER) == 1, "the statement has one place for filters"  # noqa: S101
    return statement.replace(_PLACEHOLDER, f"WHERE {condition}")
