"""What a report can be added up from. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from shared.errors import ValidationError
from shared.ledger.rules import EFFECTIVE_AHEAD_MAX
from shared.usage_reports.model import Dimension, ReportRequest, ReportSource, Setting

HOUR = timedelta(hours=1)
PERIOD_MAX = timedelta(days=100)
# A report of what is not totalled reads so many rows at most.
ROWS_MAX = 50_000


def changed(before: Setting, dimensions: frozenset[Dimension], *, now: datetime) -> Setting:
    """Return a new setting. With fewer dimensions, the totals until now remain valid."""
    if dimensions == before.dimensions:
        return before
    keeps = bool(dimensions) and dimensions < before.dimensions
    return Setting(dimensions, before.since if keeps else now if dimensions else None)


def totals_from(setting: Setting) -> datetime | None:
    """Return the first hour whose totals are complete.

    Usage may be dated an hour ahead, so that usage of the first hour may be older than the setting.
    """
    if setting.since is None:
        return None
    at = setting.since + EFFECTIVE_AHEAD_MAX
    return at.replace(minute=0, second=0, microsecond=0) + HOUR


def has_totals(request: ReportRequest, setting: Setting) -> bool:
    """Whether the totals of an organization have everything that a report needs."""
    first = totals_from(setting)
    return first is not None and request.start >= first and request.dimensions <= setting.dimensions


def source_of(request: ReportRequest, setting: Setting, *, rows: int) -> ReportSource:
    """Return what to add up: the totals, else the rows since the period began, if they are few.

    Raises ValidationError if neither is possible.
    """
    if has_totals(request, setting):
        return ReportSource.TOTALS
    if rows <= ROWS_MAX:
        return ReportSource.ROWS
    first = totals_from(setting)
    since = f" from {first:%Y-%m-%dT%H:%MZ}" if first and setting.dimensions else ""
    on = ", ".join(sorted(setting.dimensions)) or "none"
    message = (
        f"needs totals that there are not (dimensions that are on: {on}{since}), and {rows:,} rows"
        f" are too many to add up (at most {ROWS_MAX:,}). Turn the dimensions on with PUT"
        " /v1/billing/{organizationId}/usage/dimensions, or ask for a period that begins later."
    )
    raise ValidationError(
        f"groupBy: {message}",
        errors=[{"loc": ["query", "groupBy"], "msg": message, "type": "value_error"}],
    )


def whole_hours(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """Return a period, rounded outward to whole hours."""
    whole = end.replace(minute=0, second=0, microsecond=0)
    return (
        start.replace(minute=0, second=0, microsecond=0),
        whole if whole == end else whole + HOUR,
    )
