"""Reports of usage."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from prepaid_client import operations, types
from prepaid_client.requests.request import Request, request, time_text


def usage_report(
    organization: str,
    *,
    group_by: Sequence[types.GroupBy] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    model: str | None = None,
    user: str | None = None,
    category: str | None = None,
    key: str | None = None,
    tag: str | None = None,
    limit: int | None = None,
) -> Request[types.UsageReportResponse]:
    """Return the usage of a period of whole hours, by what it is grouped by.

    The default period is this month in UTC. `model`, `user`, `category`, `key` and `tag` include
    usage with this value only.
    """
    query = {
        "groupBy": None if group_by is None else ",".join(group_by),
        "from": time_text(start),
        "to": time_text(end),
        "model": model,
        "user": user,
        "category": category,
        "key": key,
        "tag": tag,
        "limit": limit,
    }
    return request(operations.REPORT_USAGE, {"organizationId": organization}, query=query)


def usage_dimensions(organization: str) -> Request[types.DimensionsResponse]:
    """Return the dimensions that usage is totalled by."""
    return request(operations.GET_USAGE_DIMENSIONS, {"organizationId": organization})


def set_usage_dimensions(
    organization: str, dimensions: Sequence[types.Dimension], *, idempotency_key: str | None = None
) -> Request[types.DimensionsResponse]:
    """Choose the dimensions that usage is totalled by from now on; none turns totals off."""
    return request(
        operations.CHANGE_USAGE_DIMENSIONS,
        {"organizationId": organization},
        body={"dimensions": [*dimensions]},
        idempotency_key=idempotency_key,
    )
