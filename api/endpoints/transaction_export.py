"""Transactions as a CSV file of any size."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from api.framework.csv_replies import CsvStream
from api.framework.fields import Request
from api.framework.operation import Call, Operation, Reply
from api.transactions import metadata
from api.transactions.periods import bounds_in_utc
from shared.access.model import Scope
from shared.ids import transaction_public_id
from shared.ledger import export
from shared.ledger.origin import TAGS
from shared.spreadsheets import CONTENT_TYPE, Cell, csv_text, json_cell

if TYPE_CHECKING:
    import asyncpg

EXPORT_SECONDS_MAX = 900.0
COLUMNS = (
    "changeSequence", "id", "type", "amount", "balanceAfter", "createdOn", "effectiveOn",
    "transactionId", "note", "category", "quantity", "userId", "model", "tags",
    "paymentIntentId", "metadata", "hash",
)  # fmt: skip


class ExportQuery(Request):
    """The moments between which transactions were created: from `from`, before `to`."""

    from_: datetime | None = msgspec.field(default=None, name="from")
    to: datetime | None = None


async def export_transactions(call: Call) -> Reply:
    """Return an organization's transactions as CSV, oldest first.

    Rows that exist when the request begins, and were created from `from` until before `to`. The
    file is sent as it is read; a connection that ends before the file does has failed. A text that
    a spreadsheet would take as a formula begins with an apostrophe.
    """
    query: ExportQuery = call.query
    start, end = bounds_in_utc(query.from_, query.to)
    async with call.api.pool.acquire() as connection:
        bounds = await export.bounds(connection, call.owner.id, start=start, end=end)
    return Reply(CsvStream(f"transactions-{call.owner.slug}.csv", _parts(call, bounds)))


async def _parts(call: Call, bounds: export.Bounds) -> AsyncIterator[str]:
    """Yield the heading, then pages of rows. No connection is used while a page is sent."""
    yield csv_text([COLUMNS])
    after = bounds.after
    while after < bounds.last:
        async with call.api.pool.acquire() as connection:
            rows = await export.page(connection, call.owner.id, after=after, last=bounds.last)
        after = rows[-1]["seq"]
        yield csv_text(_cells(row) for row in rows)


def _cells(row: asyncpg.Record) -> tuple[Cell, ...]:
    stored = row["metadata"] or {}
    public = metadata.public(stored)
    return (
        row["seq"],
        transaction_public_id(row["id"]),
        row["type"],
        row["amount"],
        row["balance_after"],
        row["created_at"],
        row["effective_at"],
        row["idempotency_key"],
        row["description"],
        row["category"],
        row["quantity"],
        row["user_id"],
        row["model"],
        " ".join(stored.get(TAGS, ())),
        row["payment_intent_id"],
        json_cell(public) if public else None,
        row["hash"].hex(),
    )


OPERATIONS = (
    Operation(
        name="exportTransactions",
        tag="Reports",
        method="GET",
        path="/v1/billing/{organizationId}/transactions.csv",
        handle=export_transactions,
        query=ExportQuery,
        response=None,
        media=(CONTENT_TYPE,),
        scope=Scope.READ,
        seconds_max=EXPORT_SECONDS_MAX,
        cost=100,
    ),
)
