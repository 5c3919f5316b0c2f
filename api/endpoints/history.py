"""The history of an organization: its transactions, newest first."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import msgspec

from api.framework import cursors, fields
from api.framework.fields import Number, PageQuery, Response
from api.framework.operation import Call, Operation, Reply
from api.transactions import metadata
from api.transactions.periods import bounds_in_utc
from api.transactions.type_names import entry_type
from shared.access.model import Scope
from shared.ids import transaction_public_id
from shared.ledger import export, store
from shared.usage_reports.model import Dimension

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

CURSOR = "history"
VALUE_LENGTH_MAX = 255
Value = Annotated[str, msgspec.Meta(min_length=1, max_length=VALUE_LENGTH_MAX)]


class HistoryQuery(PageQuery):
    """The page, the period in which transactions were created, and values that they must have."""

    from_: datetime | None = msgspec.field(default=None, name="from")
    to: datetime | None = None
    model: Value | None = None
    user: Value | None = None
    category: Value | None = None
    key: Value | None = None
    tag: Value | None = None


class HistoryRow(Response):
    """A ledger row. `amount` and `balanceAfter` are in credits."""

    id: str
    organization_id: UUID
    amount: Number
    entry_type: str
    reason: str | None
    reference_id: str
    balance_after: Number
    metadata: dict[str, Any]
    created_at: datetime


class HistoryPage(Response):
    """A page, newest first. `prevCursor` leads to newer rows; `total` counts those of the period.

    Where rows are filtered by value, there is neither, and a page may be shorter than its limit, or
    empty, while `nextCursor` leads on.
    """

    data: list[HistoryRow]
    next_cursor: str | None
    prev_cursor: str | None
    total: int | None


async def history(call: Call) -> Reply:
    """List an organization's transactions, newest first.

    Every page costs the same, however far back it is. `from` and `to` limit the period in which
    they were created. The page at `prevCursor` ends directly before this one, and is shorter if
    fewer rows are newer. Filtered by values, a page reads 10,000 rows at most: follow `nextCursor`
    until it is null.
    """
    query: HistoryQuery = call.query
    start, end = bounds_in_utc(query.from_, query.to)
    values = {str(n): getattr(query, n) for n in Dimension if getattr(query, n) is not None}
    async with call.api.pool.acquire() as connection:
        bounds = await export.bounds(connection, call.owner.id, start=start, end=end)
        if values:
            return await _filtered(call, connection, bounds, values)
        before, limit = _range(query, bounds)
        rows = await store.history(connection, call.owner.id, before=before, limit=limit)
    newest, oldest = (rows[0]["seq"], rows[-1]["seq"]) if rows else (before - 1, before)
    return Reply(
        HistoryPage(
            data=[_row(row) for row in rows],
            next_cursor=cursors.encode(CURSOR, oldest) if oldest > bounds.after + 1 else None,
            prev_cursor=_newer(newest) if newest < bounds.last else None,
            total=bounds.last - bounds.after,
        )
    )


async def _filtered(
    call: Call, connection: Connection, bounds: export.Bounds, values: dict[str, str]
) -> Reply:
    query: HistoryQuery = call.query
    before = min(cursors.decode_seq(CURSOR, query.cursor), bounds.last + 1)
    after = max(bounds.after, before - 1 - export.ROWS_READ_MAX)
    rows = await export.history_of_values(
        connection, call.owner.id, before=before, after=after, values=values, limit=query.limit
    )
    reached = rows[-1]["seq"] if len(rows) == query.limit else after + 1
    return Reply(
        HistoryPage(
            data=[_row(row) for row in rows],
            next_cursor=cursors.encode(CURSOR, reached) if reached > bounds.after + 1 else None,
            prev_cursor=None,
            total=None,
        )
    )


def _range(query: HistoryQuery, bounds: export.Bounds) -> tuple[int, int]:
    """Return the `seq` that a page starts below, and its maximum number of rows.

    `seq` has no gaps, so the range of a page of newer rows is known without a query.
    """
    if query.cursor is None or not query.cursor.startswith(_NEWER):
        before = min(cursors.decode_seq(CURSOR, query.cursor), bounds.last + 1)
        before = max(before, bounds.after + 1)
        return before, min(query.limit, before - 1 - bounds.after)
    after = min(cursors.decode_seq(CURSOR, query.cursor.removeprefix(_NEWER)), bounds.last)
    newer = min(query.limit, bounds.last - after)
    return after + newer + 1, newer


_NEWER = "-"


def _newer(seq: int) -> str:
    return _NEWER + cursors.encode(CURSOR, seq)


def _row(row: asyncpg.Record) -> HistoryRow:
    return HistoryRow(
        id=transaction_public_id(row["id"]),
        organization_id=row["organization_id"],
        amount=fields.format_number(row["amount"]),
        entry_type=entry_type(row["type"]),
        reason=row["description"],
        reference_id=row["payment_intent_id"] or row["idempotency_key"],
        balance_after=fields.format_number(row["balance_after"]),
        metadata=metadata.public(row["metadata"]),
        created_at=row["created_at"],
    )


OPERATIONS = (
    Operation(
        name="listCreditHistory",
        tag="Balance and history",
        method="GET",
        path="/v1/billing/{organizationId}/credits/history",
        handle=history,
        query=HistoryQuery,
        response=HistoryPage,
        scope=Scope.READ,
    ),
)
