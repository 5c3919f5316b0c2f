"""The filters of a list, as its query gives them: validated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from shared.errors import InvalidRequestError
from shared.times import in_utc

Choice = TypeVar("Choice", bound=StrEnum)

_AGO = re.compile(r"(\d{1,6})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
SINCE_HINT = "30m, 24h, 7d or 2026-11-28"


def values(query: Mapping[str, str], *names: str) -> dict[str, str]:
    """Return the fields of a filter form as they were given."""
    return {name: query.get(name, "") for name in names}


def text(query: Mapping[str, str], name: str) -> str | None:
    """Return a field without surrounding spaces; None where it is empty."""
    return query.get(name, "").strip() or None


def choice(query: Mapping[str, str], name: str, kind: type[Choice]) -> Choice | None:
    """Return a value of an enumeration; raise InvalidRequestError for any other."""
    given = text(query, name)
    try:
        return None if given is None else kind(given)
    except ValueError:
        raise InvalidRequestError(f"{name}: give one of {', '.join(kind)}.") from None


def since(query: Mapping[str, str], now: datetime, name: str = "since") -> datetime | None:
    """Return a past moment: so long ago, a day or an ISO 8601 time (UTC without a zone).

    Raises InvalidRequestError for any other text, and for a moment in the future.
    """
    given = text(query, name)
    if given is None:
        return None
    try:
        if match := _AGO.fullmatch(given):
            at = now - timedelta(**{_UNITS[match[2]]: int(match[1])})
        else:
            at = in_utc(datetime.fromisoformat(given))
    except (ValueError, OverflowError):
        raise InvalidRequestError(f"{name}: give a time such as {SINCE_HINT}.") from None
    if at > now:
        raise InvalidRequestError(f"{name}: {given[:50]} is in the future.")
    return at
