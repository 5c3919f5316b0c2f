"""Moments that queries name."""

from __future__ import annotations

from datetime import UTC, datetime

from api.framework import fields
from shared.ledger.rules import MOMENT_MAX, MOMENT_MIN


def in_utc(time: datetime, name: str) -> datetime:
    """Return a moment of a query in UTC; raise ValidationError without a zone or out of bounds."""
    if time.tzinfo is None:
        raise fields.invalid(("query", name), "needs a time zone, such as 2031-01-31T09:30:00Z")
    if not MOMENT_MIN <= time <= MOMENT_MAX:
        raise fields.invalid(("query", name), "must be from 1970 to 9000")
    return time.astimezone(UTC)


def bounds_in_utc(
    start: datetime | None, end: datetime | None
) -> tuple[datetime | None, datetime | None]:
    """Return the parameters `from` and `to` in UTC; raise ValidationError if they are reversed."""
    first = None if start is None else in_utc(start, "from")
    last = None if end is None else in_utc(end, "to")
    if first is not None and last is not None and last < first:
        raise fields.invalid(("query", "to"), "must not be before from")
    return first, last
