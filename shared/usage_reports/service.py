"""Reports of usage, and the dimensions that an organization has totals of."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

from shared.ledger.rules import EFFECTIVE_AHEAD_MAX
from shared.usage_reports import rules, store
from shared.usage_reports.model import (
    Dimension,
    Report,
    ReportRequest,
    ReportSource,
    Setting,
    Usage,
)

if TYPE_CHECKING:
    from shared.db.pool import Connection


async def report(connection: Connection, organization_id: UUID, request: ReportRequest) -> Report:
    """Return a report, from the totals of hours or from rows.

    Raises ValidationError if a dimension is not totalled and the rows are too many.
    """
    setting = await store.setting(connection, organization_id)
    found = await store.rows_since(connection, organization_id, request.start - EFFECTIVE_AHEAD_MAX)
    source = rules.source_of(request, setting, rows=found.last - found.after)
    rows = found if source is ReportSource.ROWS else None
    groups = await store.report(connection, organization_id, request, request.group_by, rows)
    sums = await store.report(connection, organization_id, request, frozenset(), rows)
    return Report(
        source=source,
        groups=groups[: request.groups_max],
        total=Usage(
            quantity=sum((each.quantity for each in sums), Decimal(0)),
            cost=sum((each.cost for each in sums), Decimal(0)),
            transactions=sum(each.transactions for each in sums),
        ),
        is_truncated=len(groups) > request.groups_max,
    )


async def change_dimensions(
    connection: Connection, organization_id: UUID, dimensions: frozenset[Dimension]
) -> Setting:
    """Turn on these dimensions, and no others, in the caller's transaction."""
    before, now = await store.lock_setting(connection, organization_id)
    changed = rules.changed(before, dimensions, now=now)
    if changed != before:
        await store.change_setting(connection, organization_id, changed)
    return changed
