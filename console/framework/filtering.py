"""The filters of a list, as its query gives them: validated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from shared.errors import InvalidRequestError
from shared.organizations import service as organizations
from shared.times import in_utc

if TYPE_CHECKING:
    from uuid import UUID

    from shared.db.pool import Connection

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


def day(query: Mapping[str, str], name: str) -> date | None:
    """Return a day; raise InvalidRequestError for any other text."""
    given = text(query, name)
    try:
        return None if given is None else date.fromisoformat(given)
    except ValueError:
        raise InvalidRequestError(f"{name}: give a day such as 2026-11-28.") from None


def start_of(value: date) -> datetime:
    """Return the first moment of a day, in UTC."""
    return datetime(value.year, value.month, value.day, tzinfo=UTC)


def end_of(value: date) -> datetime:
    """Return the first moment after a day, in UTC; that of the last possible day is its start."""
    return start_of(min(value, date.max - timedelta(days=1)) + timedelta(days=1))


async def organization_id(connection: Connection, query: Mapping[str, str]) -> UUID | None:
    """Return the id of the organization that the query names; raise NotFoundError for none."""
    reference = text(query, "organization")
    return None if reference is None else (await organizations.find(connection, reference)).id
