"""Moments and cursors as commands take them."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime, timedelta

import typer

_DURATION = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def moment(text: str) -> datetime:
    """Read `30m`, `24h`, `7d` (ago), or an ISO 8601 moment (UTC where it names no zone)."""
    if match := _DURATION.fullmatch(text):
        try:
            return datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})
        except OverflowError:
            raise typer.BadParameter("that is before everything") from None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("give 30m, 24h, 7d or 2026-01-31T12:00:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def cursor(at: datetime, row_id: str) -> str:
    """Return a cursor that stands after a row."""
    return base64.urlsafe_b64encode(f"{at.isoformat()} {row_id}".encode()).decode()


def read_cursor(text: str) -> tuple[datetime, str]:
    """Read a cursor; wrong usage where it is none."""
    try:
        at, row_id = base64.urlsafe_b64decode(text).decode().split(" ", 1)
        return datetime.fromisoformat(at), row_id
    except ValueError:
        raise typer.BadParameter("not a cursor of this command") from None
