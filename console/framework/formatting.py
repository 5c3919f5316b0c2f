"""Amounts, times and states as text for people."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from shared.money import plain

MINUTE, HOUR, DAY = 60, 3_600, 86_400
DAYS_AGO_MAX = 365
SHORTENED_CHARACTERS_MAX = 200

# States by what they ask of an operator. The word itself is always shown beside the color.
_GOOD = frozenset({
    "active", "applied", "available", "captured", "completed", "credited", "delivered", "finished",
    "ok", "paid", "succeeded", "valid", "won",
})  # fmt: skip
_BAD = frozenset({
    "canceled_by_fraud", "dead", "depleted", "failed", "lost", "overdue", "quarantined",
    "suspended", "violated",
})  # fmt: skip
_WARNING = frozenset({
    "charging", "needs_response", "paused_requires_action", "processing", "requires_action",
    "retrying", "under_review", "unknown", "warning",
})  # fmt: skip


def tone(state: str) -> str:
    """Return how a state is colored: good, bad, warning or neutral."""
    word = state.lower()
    if word in _GOOD:
        return "good"
    if word in _BAD:
        return "bad"
    return "warning" if word in _WARNING else "neutral"


def amount(value: Decimal | float) -> str:
    """Format an amount exactly, with groups of thousands: 1,234.5."""
    text = plain(Decimal(value))
    whole, point, decimals = text.removeprefix("-").partition(".")
    sign = "-" if text.startswith("-") else ""
    return f"{sign}{int(whole):,}{point}{decimals}"


def utc(at: datetime) -> str:
    """Format a time to the second, in UTC."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def relative(at: datetime, now: datetime) -> str:
    """Format a time as its distance from now: 3 min ago, in 2 h."""
    seconds = (at - now).total_seconds()
    size = abs(seconds)
    if size < 1:
        return "now"
    text = duration(timedelta(seconds=size))
    return f"in {text}" if seconds > 0 else f"{text} ago"


def duration(value: timedelta) -> str:
    """Format a duration in its largest unit."""
    seconds = value.total_seconds()
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    if seconds < HOUR:
        return f"{seconds // MINUTE:.0f} min"
    if seconds < 2 * DAY:
        return f"{seconds // HOUR:.0f} h"
    days = seconds // DAY
    return f"{days:.0f} days" if days <= DAYS_AGO_MAX else f"{days // 30:.0f} months"


def segment(value: Any) -> str:
    """Return a text as one part of an address, slashes quoted."""
    return quote(str(value), safe="")


def size(length: int) -> str:
    """Format a number of bytes."""
    if length < 1_000:  # noqa: PLR2004 - the unit's own size
        return f"{length} bytes"
    if length < 1_000_000:  # noqa: PLR2004
        return f"{length / 1_000:.1f} kB"
    return f"{length / 1_000_000:.1f} MB"


def shortened(value: Any, length_max: int = SHORTENED_CHARACTERS_MAX) -> str:
    """Return a text of limited length; an ellipsis stands for the rest."""
    text = str(value)
    return text if len(text) <= length_max else f"{text[: length_max - 1]}…"
