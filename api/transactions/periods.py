"""Moments and periods that queries name."""

from __future__ import annotations

from datetime import UTC, datetime

from api.framework import fields
from shared.ledger.rules import MOMENT_MAX, MOMENT_MIN


def moment_in_utc(time: datetime | None, name: str) -> datetime | None:
    """Return a moment of a query in UTC; raise ValidationError without a zone or out of bounds."""
    if time is None:
        return None
    if time.tzinfo is None:
        raise fields.invalid(("query", name), "needs a time zone, such as 2031-01-31T09:30:00Z")
    if not MOMENT_MIN <= time <= MOMENT_MAX:
        raise fields.invalid(("query", name), "must be from 1970 to 9000")
    return time.astimezone(UTC)
