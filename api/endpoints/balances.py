"""The balance, the history and usage totals of an organization."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import msgspec

from api.framework import cursors, fields
from api.framework.fields import (
    Decimillicents,
    DecimillicentsOrNull,
    Number,
    PageQuery,
    Request,
    Response,
)
from api.framework.operation import Call, Operation, Reply
from api.transactions import metadata
from api.transactions.type_names import entry_type
from shared.access.model import Scope
from shared.ids import transaction_public_id
from shared.ledger import rules, store

if TYPE_CHECKING:
    import asyncpg

CURSOR = "history"
AHEAD_MAX = timedelta(minutes=1)


class CreditsQuery(Request):
    """`at`: return the balance at this time, such as 2031-01-31T09:30:00Z."""

    at: datetime | None = None


class CreditsResponse(Response):
    """A balance. `availableCredits` is what a debit may use now. With `at`, only balances."""

    organization_id: UUID
    credits_balance_decimillicents: Decimillicents
    reserved_credits_decimillicents: DecimillicentsOrNull
    available_credits_decimillicents: DecimillicentsOrNull
    overdraft_limit_decimillicents: DecimillicentsOrNull
    balance: Number
    at: datetime


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
    """A page, newest first. `prevCursor` leads to newer rows; `total` counts all rows."""

    data: list[HistoryRow]
    next_cursor: str | None
    prev_cursor: str | None
    total: int


class UsageQuery(Request):
    """A category and a period; the default is this calendar month in UTC."""

    category: Annotated[str, msgspec.Meta(min_length=1, max_length=rules.CATEGORY_LENGTH_MAX)]
    period_start: datetime | None = None
    period_end: datetime | None = None


class UsageResponse(Response):
    """The usage of a category. The period is rounded outward to whole hours."""

    organization_id: UUID
    category: str
    period_start: datetime
    period_end: datetime
    total_quantity: Number
    total_cost_decimillicents: Decimillicents


async def balance(call: Call) -> Reply:
    """Return an organization's balance, held credits and available credits.

    With `at`, return only the balance at that time: past holds are not stored.
    """
    query: CreditsQuery = call.query
    if query.at is not None:
        return await _balance_at(call, query.at)
    current = await call.api.balances.read(call.owner.id)
    assert current is not None  # noqa: S101 - every organization has an account
    return Reply(
        CreditsResponse(
            organization_id=call.owner.id,
            credits_balance_decimillicents=fields.format_decimillicents(current.balance),
            reserved_credits_decimillicents=fields.format_decimillicents(current.held),
            available_credits_decimillicents=fields.format_decimillicents(current.available),
            overdraft_limit_decimillicents=fields.format_decimillicents(current.overdraft_limit),
            balance=fields.format_number(current.balance),
            at=call.now,
        )
    )


async def _balance_at(call: Call, at: datetime) -> Reply:
    moment = _utc(at, "at")
    if moment > call.now + AHEAD_MAX:
        raise fields.invalid(("query", "at"), "must not be in the future")
    async with call.api.pool.acquire() as connection:
        owned = await store.balance_at(connection, call.owner.id, moment)
    return Reply(
        CreditsResponse(
            organization_id=call.owner.id,
            credits_balance_decimillicents=fields.format_decimillicents(owned),
            reserved_credits_decimillicents=fields.NULL,
            available_credits_decimillicents=fields.NULL,
            overdraft_limit_decimillicents=fields.NULL,
            balance=fields.format_number(owned),
            at=moment,
        )
    )


async def history(call: Call) -> Reply:
    """List an organization's transactions, newest first.

    Every page costs the same, however far back it is. The page at `prevCursor` ends directly before
    this one, and is shorter if fewer rows are newer.
    """
    query: PageQuery = call.query
    async with call.api.pool.acquire() as connection:
        account = await store.balance(connection, call.owner.id)
        assert account is not None  # noqa: S101 - every organization has an account
        before, limit = _range(query, account.last_seq)
        rows = await store.history(connection, call.owner.id, before=before, limit=limit)
    newest, oldest = (rows[0]["seq"], rows[-1]["seq"]) if rows else (before - 1, before)
    return Reply(
        HistoryPage(
            data=[_row(row) for row in rows],
            next_cursor=cursors.encode(CURSOR, oldest) if oldest > 1 else None,
            prev_cursor=_newer(newest) if newest < account.last_seq else None,
            total=account.last_seq,
        )
    )


async def usage(call: Call) -> Reply:
    """Return the quantity and the cost of a category in a period.

    The default period is this calendar month in UTC. Usage totals are stored by the hour, so the
    period is rounded to whole hours, and the response states it.
    """
    query: UsageQuery = call.query
    if fault := rules.text_refusal("category", query.category, rules.CATEGORY_LENGTH_MAX):
        raise fields.invalid(("query", "category"), fault.partition(": ")[2])
    start, end = _period(query, call.now)
    async with call.api.pool.acquire() as connection:
        total = await store.usage_total(
            connection, call.owner.id, query.category, start=start, end=end
        )
    return Reply(
        UsageResponse(
            organization_id=call.owner.id,
            category=query.category,
            period_start=start,
            period_end=end,
            total_quantity=fields.format_number(total["quantity"]),
            total_cost_decimillicents=fields.format_decimillicents(total["cost"]),
        )
    )


def _range(query: PageQuery, last_seq: int) -> tuple[int, int]:
    """Return the `seq` that a page starts below, and its maximum number of rows.

    `seq` has no gaps, so the range of a page of newer rows is known without a query.
    """
    if query.cursor is None or not query.cursor.startswith(_NEWER):
        before = min(cursors.decode_seq(CURSOR, query.cursor), last_seq + 1)
        return max(before, 1), query.limit
    after = min(cursors.decode_seq(CURSOR, query.cursor.removeprefix(_NEWER)), last_seq)
    newer = min(query.limit, last_seq - after)
    return after + newer + 1, newer


_NEWER = "-"


def _newer(seq: int) -> str:
    return _NEWER + cursors.encode(CURSOR, seq)


def _period(query: UsageQuery, now: datetime) -> tuple[datetime, datetime]:
    month = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    start = month if query.period_start is None else _utc(query.period_start, "periodStart")
    end = now if query.period_end is None else _utc(query.period_end, "periodEnd")
    if end < start:
        if query.period_end is None:
            raise fields.invalid(("query", "periodStart"), "must not be in the future")
        raise fields.invalid(("query", "periodEnd"), "must not be before periodStart")
    hour = timedelta(hours=1)
    whole = end.replace(minute=0, second=0, microsecond=0)
    return (
        start.replace(minute=0, second=0, microsecond=0),
        whole if whole == end else whole + hour,
    )


def _utc(time: datetime, name: str) -> datetime:
    if time.tzinfo is None:
        raise fields.invalid(("query", name), "needs a time zone, such as 2031-01-31T09:30:00Z")
    if not rules.MOMENT_MIN <= time <= rules.MOMENT_MAX:
        raise fields.invalid(("query", name), "must be from 1970 to 9000")
    return time.astimezone(UTC)


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


_TAG = "Balance and history"
OPERATIONS = (
    Operation(
        name="getCredits",
        tag=_TAG,
        method="GET",
        path="/v1/billing/{organizationId}/credits",
        handle=balance,
        query=CreditsQuery,
        response=CreditsResponse,
        scope=Scope.READ,
        or_scopes=(Scope.USAGE,),
    ),
    Operation(
        name="listCreditHistory",
        tag=_TAG,
        method="GET",
        path="/v1/billing/{organizationId}/credits/history",
        handle=history,
        query=PageQuery,
        response=HistoryPage,
        scope=Scope.READ,
    ),
    Operation(
        name="getUsage",
        tag=_TAG,
        method="GET",
        path="/v1/organizations/{organizationId}/usage",
        handle=usage,
        query=UsageQuery,
        response=UsageResponse,
        scope=Scope.READ,
    ),
)
