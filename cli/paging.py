"""Parsing times and cursors of command options."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime, timedelta

import typer

from shared.times import in_utc

_DURATION = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def moment(text: str) -> datetime:
    """Parse `30m`, `24h`, `7d` (ago), or an ISO 8601 time (UTC without a zone)."""
    if match := _DURATION.fullmatch(text):
        try:
            return datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})
        except (OverflowError, ValueError):  # Python reads no number of 5,000 digits
            raise typer.BadParameter("is too long ago") from None
    try:
        return in_utc(datetime.fromisoformat(text))
    except ValueError:
        raise typer.BadParameter("must be 30m, 24h, 7d or 2026-01-31T12:00:00Z") from None


def past_moment(text: str) -> datetime:
    """Parse a moment; raise BadParameter for one in the future: nothing has arrived since then."""
    at = moment(text)
    if at > datetime.now(UTC):
        raise typer.BadParameter("is in the future")
    return at


def cursor(at: datetime, row_id: str) -> str:
    """Return a cursor after a row."""
    return base64.urlsafe_b64encode(f"{at.isoformat()} {row_id}".encode()).decode()


def read_cursor(text: str) -> tuple[datetime, str]:
    """Parse a cursor; raise BadParameter if it is not valid."""
    try:
        at, row_id = base64.urlsafe_b64decode(text).decode().split(" ", 1)
        return in_utc(datetime.fromisoformat(at)), row_id
    except ValueError:
        raise typer.BadParameter("is not a cursor of this command") from None
