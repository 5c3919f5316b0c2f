"""Times that people write, as PostgreSQL can compare them."""

from __future__ import annotations

from datetime import UTC, datetime


def in_utc(moment: datetime) -> datetime:
    """Return a moment in UTC; without a zone it is in UTC already.

    Raises ValueError for one that has no year in UTC: a minute of the year 1, a day east of it.
    """
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:
        raise ValueError(f"{moment} is no time in UTC") from None
