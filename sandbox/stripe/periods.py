"""Billing periods and the share of one that is left. Pure.

https://docs.stripe.com/billing/subscriptions/billing-cycle
"""

import calendar
from datetime import UTC, datetime, timedelta

from sandbox.stripe.store import Json

MONTHS_PER_YEAR = 12


def end_of(start: int, recurring: Json, anchor: int) -> int:
    """Return when the period that begins at `start` ends; a month's end keeps the anchor's day."""
    count, interval = recurring["interval_count"], recurring["interval"]
    moment = datetime.fromtimestamp(start, UTC)
    if interval in {"day", "week"}:
        days = count if interval == "day" else 7 * count
        return int((moment + timedelta(days=days)).timestamp())
    months = count if interval == "month" else MONTHS_PER_YEAR * count
    index = moment.year * MONTHS_PER_YEAR + moment.month - 1 + months
    year, month = index // MONTHS_PER_YEAR, index % MONTHS_PER_YEAR + 1
    day = min(datetime.fromtimestamp(anchor, UTC).day, calendar.monthrange(year, month)[1])
    return int(moment.replace(year=year, month=month, day=day).timestamp())


def left(amount: int, period: tuple[int, int], at: int) -> int:
    """Return what an amount for a whole period is worth for the rest after `at`, rounded."""
    start, end = period
    seconds, whole = min(max(end - at, 0), end - start), end - start
    return (2 * amount * seconds + whole) // (2 * whole)
