"""The balance and usage totals of an organization."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

import msgspec

from api.framework import fields
from api.framework.fields import (
    Decimillicents,
    DecimillicentsOrNull,
    Number,
    Request,
    Response,
)
from api.framework.operation import Call, Operation, Reply
from api.transactions.periods import in_utc
from shared.access.model import Scope
from shared.ledger import rules, store

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
    moment = in_utc(at, "at")
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


def _period(query: UsageQuery, now: datetime) -> tuple[datetime, datetime]:
    month = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    start = month if query.period_start is None else in_utc(query.period_start, "periodStart")
    end = now if query.period_end is None else in_utc(query.period_end, "periodEnd")
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
        route_rank=1,
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
