"""Rows of an organization by period and by the values of dimensions, page by page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from shared.db.queries import beside

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__, "export.sql")
ROWS_AT_ONCE = 1_000
# A page of rows with some values reads so many at most.
ROWS_READ_MAX = 10_000
# In the order of the statement's parameters.
_DIMENSIONS = ("model", "user", "category", "key", "tag")


class Bounds(NamedTuple):
    """A range of rows: after the seq `after`, until the seq `last`."""

    after: int
    last: int


async def bounds(
    connection: Connection,
    organization_id: UUID,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
) -> Bounds:
    """Return the rows that were created from `start` until before `end`, and exist now."""
    row = await connection.fetchrow(QUERIES.bounds, organization_id, start, end)
    assert row is not None  # noqa: S101 - every organization has an account
    return Bounds(min(row["after"], row["last"]), row["last"])


async def page(
    connection: Connection, organization_id: UUID, *, after: int, last: int
) -> list[asyncpg.Record]:
    """Return the next rows of a range, oldest first; `seq` has no gaps."""
    through = min(after + ROWS_AT_ONCE, last)
    return await connection.fetch(QUERIES.page, organization_id, after, through)


async def history_of_values(
    connection: Connection,
    organization_id: UUID,
    *,
    before: int,
    after: int,
    values: Mapping[str, str],
    limit: int,
) -> list[asyncpg.Record]:
    """Return rows below `before` and above `after` that have these values, newest first."""
    return await connection.fetch(
        QUERIES.history_of_values,
        organization_id,
        before,
        after,
        *(values.get(name) for name in _DIMENSIONS),
        limit,
    )
