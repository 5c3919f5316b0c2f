"""Usage reports by model, user, category, API key, tag and day."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec

from api.framework import fields
from api.framework.fields import Number, Request, Response
from api.framework.operation import Call, Operation, Reply, Retry
from api.transactions.periods import bounds_in_utc
from shared.access.model import Scope
from shared.months import Month
from shared.usage_reports import rules, service, store
from shared.usage_reports.model import Dimension, Group, GroupBy, ReportRequest, Setting, Usage

GROUPS_MAX, GROUPS_DEFAULT = 10_000, 1_000
VALUE_LENGTH_MAX = 255
Value = Annotated[str, msgspec.Meta(min_length=1, max_length=VALUE_LENGTH_MAX)]


class UsageReportQuery(Request):
    """What to group by (names with commas between them), the period, and values to include only.

    The default period is this calendar month in UTC.
    """

    group_by: str | None = None
    from_: datetime | None = msgspec.field(default=None, name="from")
    to: datetime | None = None
    model: Value | None = None
    user: Value | None = None
    category: Value | None = None
    key: Value | None = None
    tag: Value | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=GROUPS_MAX)] = GROUPS_DEFAULT


class UsageTotalResponse(Response):
    """A sum of usage. `cost` is in credits."""

    quantity: Number
    cost: Number
    transactions: int


class UsageGroupResponse(UsageTotalResponse):
    """A group: the day and the values that it is grouped by; null: usage without one.

    `isRest`: usage beyond the first 1,000 combinations of values in an hour.
    """

    day: str | None
    model: str | None
    user: str | None
    category: str | None
    key: str | None
    tag: str | None
    is_rest: bool


class UsageReportResponse(Response):
    """A report of whole hours. `source`: totals, or rows where a dimension is not totalled."""

    organization_id: UUID
    period_start: datetime
    period_end: datetime
    group_by: list[GroupBy]
    source: str
    total: UsageTotalResponse
    data: list[UsageGroupResponse]
    truncated: bool


class DimensionsRequest(Request):
    """The dimensions to total usage by; an empty list turns all off."""

    dimensions: Annotated[list[Dimension], msgspec.Meta(max_length=len(Dimension))]


class DimensionsResponse(Response):
    """The dimensions that are on. Their totals are complete from `totalsFrom` on."""

    dimensions: list[Dimension]
    totals_from: datetime | None


async def report(call: Call) -> Reply:
    """Return an organization's usage in a period, by model, user, category, key, tag and day.

    Usage belongs to the moment at which it took effect. The period is rounded to whole hours, and
    is 100 days at most. Reports of dimensions that are turned on are read from totals; others add
    up the transactions since the period began, if they are 50,000 at most. Usage with several tags
    is part of each tag's group, and once of `total`.
    """
    query: UsageReportQuery = call.query
    request = _request(query, call.now)
    async with call.api.searching() as connection:
        found = await service.report(connection, call.owner.id, request)
    return Reply(
        UsageReportResponse(
            organization_id=call.owner.id,
            period_start=request.start,
            period_end=request.end,
            group_by=sorted(request.group_by),
            source=found.source,
            total=_total(found.total),
            data=[_group(group) for group in found.groups],
            truncated=found.is_truncated,
        )
    )


def _request(query: UsageReportQuery, now: datetime) -> ReportRequest:
    first, last = bounds_in_utc(query.from_, query.to)
    start = first or Month.of(now).start
    end = last or max(now, start)
    if end < start:
        raise fields.invalid(("query", "to"), "must not be before from")
    start, end = rules.whole_hours(start, end)
    if end - start > rules.PERIOD_MAX:
        named = "to" if first is None else "from"
        message = f"at most {rules.PERIOD_MAX.days} days between from and to"
        raise fields.invalid(("query", named), message)
    values = {name: getattr(query, name) for name in Dimension if getattr(query, name) is not None}
    return ReportRequest(
        start=start,
        end=end,
        group_by=_group_by(query.group_by),
        values=values,
        groups_max=query.limit,
    )


def _group_by(text: str | None) -> frozenset[GroupBy]:
    names = text.split(",") if text else []
    try:
        return frozenset(map(GroupBy, names))
    except ValueError:
        known = ", ".join(GroupBy)
        raise fields.invalid(("query", "groupBy"), f"names with commas: {known}") from None


def _total(usage: Usage) -> UsageTotalResponse:
    return UsageTotalResponse(
        quantity=fields.format_number(usage.quantity),
        cost=fields.format_number(usage.cost),
        transactions=usage.transactions,
    )


def _group(group: Group) -> UsageGroupResponse:
    return UsageGroupResponse(
        quantity=fields.format_number(group.quantity),
        cost=fields.format_number(group.cost),
        transactions=group.transactions,
        day=f"{group.day:%Y-%m-%d}" if group.day else None,
        model=group.values.get(Dimension.MODEL),
        user=group.values.get(Dimension.USER),
        category=group.values.get(Dimension.CATEGORY),
        key=group.values.get(Dimension.KEY),
        tag=group.values.get(Dimension.TAG),
        is_rest=group.is_rest,
    )


async def dimensions(call: Call) -> Reply:
    """Return the dimensions that usage is totalled by."""
    async with call.api.pool.acquire() as connection:
        return Reply(_setting(await store.setting(connection, call.owner.id)))


async def change_dimensions(call: Call) -> Reply:
    """Choose the dimensions that usage is totalled by, hour by hour.

    Totals begin with the next postings: earlier usage is not added. Each posting of usage writes
    one more row while any dimension is on.
    """
    body: DimensionsRequest = call.body
    async with call.transaction() as connection:
        changed = await service.change_dimensions(
            connection, call.owner.id, frozenset(body.dimensions)
        )
        await call.record(
            connection,
            "billing.usage_dimensions",
            details={"dimensions": sorted(changed.dimensions)},
        )
    return Reply(_setting(changed))


def _setting(setting: Setting) -> DimensionsResponse:
    return DimensionsResponse(
        dimensions=sorted(setting.dimensions), totals_from=rules.totals_from(setting)
    )


PATH = "/v1/billing/{organizationId}/usage"
OPERATIONS = (
    Operation(
        name="reportUsage",
        tag="Reports",
        method="GET",
        path=PATH,
        handle=report,
        query=UsageReportQuery,
        response=UsageReportResponse,
        scope=Scope.READ,
        cost=10,
    ),
    Operation(
        name="getUsageDimensions",
        tag="Reports",
        method="GET",
        path=f"{PATH}/dimensions",
        handle=dimensions,
        response=DimensionsResponse,
        scope=Scope.READ,
    ),
    Operation(
        name="changeUsageDimensions",
        tag="Reports",
        method="PUT",
        path=f"{PATH}/dimensions",
        handle=change_dimensions,
        body=DimensionsRequest,
        response=DimensionsResponse,
        scope=Scope.BILLING,
        retry=Retry.STORED,
        example={"dimensions": ["model", "user"]},
    ),
)
