"""All SQL of usage reports."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from shared.db.queries import beside
from shared.usage_reports.model import (
    Dimension,
    Group,
    GroupBy,
    ReportRequest,
    Setting,
)

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__)
_COLUMNS = {
    Dimension.MODEL: "model",
    Dimension.USER: "user_id",
    Dimension.CATEGORY: "category",
    Dimension.KEY: "key_id",
    Dimension.TAG: "tag",
}


class Rows(NamedTuple):
    """The rows after a seq until another."""

    after: int
    last: int


async def setting(connection: Connection, organization_id: UUID) -> Setting:
    """Return the dimensions that are on."""
    row = await connection.fetchrow(QUERIES.setting, organization_id)
    assert row is not None  # noqa: S101 - every organization has an account
    return _setting(row)


async def lock_setting(connection: Connection, organization_id: UUID) -> tuple[Setting, datetime]:
    """Return the dimensions that are on, and the time, under the account's lock."""
    row = await connection.fetchrow(QUERIES.lock_setting, organization_id)
    assert row is not None  # noqa: S101 - as above
    return _setting(row), row["now"]


async def change_setting(connection: Connection, organization_id: UUID, changed: Setting) -> None:
    """Store the dimensions that are on."""
    names = sorted(changed.dimensions) or None
    await connection.execute(QUERIES.change_setting, organization_id, names, changed.since)


def _setting(row: asyncpg.Record) -> Setting:
    return Setting(frozenset(map(Dimension, row["dimensions"] or ())), row["since"])


async def rows_since(connection: Connection, organization_id: UUID, moment: datetime) -> Rows:
    """Return the rows that were created from a moment on."""
    row = await connection.fetchrow(QUERIES.rows_since, organization_id, moment)
    assert row is not None  # noqa: S101 - as above
    return Rows(row["after"], row["last"])


async def report(
    connection: Connection,
    organization_id: UUID,
    request: ReportRequest,
    group_by: frozenset[GroupBy],
    rows: Rows | None,
) -> list[Group]:
    """Return the groups of a report, from totals or (`rows`) from rows; one more than its limit."""
    arguments = (
        organization_id,
        request.start,
        request.end,
        sorted(group_by),
        *(request.values.get(dimension) for dimension in Dimension),
        request.groups_max + 1,
    )
    if rows is None:
        records = await connection.fetch(QUERIES.report_of_totals, *arguments)
    else:
        records = await connection.fetch(QUERIES.report_of_rows, *arguments, *rows)
    grouped = [dimension for dimension in Dimension if GroupBy(dimension) in group_by]
    return [
        Group(
            day=row["day"],
            values={dimension: row[_COLUMNS[dimension]] for dimension in grouped},
            is_rest=row["is_rest"],
            quantity=row["quantity"],
            cost=row["cost"],
            transactions=row["transactions"],
        )
        for row in records
    ]
