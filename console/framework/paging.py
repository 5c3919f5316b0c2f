"""Keyset pages: opaque cursors, validated."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

import msgspec

from shared.errors import InvalidRequestError
from shared.times import in_utc

Row = TypeVar("Row")

ROWS_MAX = 50
CURSOR_LENGTH_MAX = 400
WRONG = "This is not a cursor of this list. Open the list from its first page."
# Half of what a bigint holds, so that a statement can add to it.
SEQ_MAX = 2**62


@dataclass(frozen=True, slots=True)
class Rows(Generic[Row]):
    """A page of rows, and the addresses of the first page (where this is another) and the next."""

    rows: Sequence[Row]
    first: str | None
    next: str | None


def rows(
    found: Sequence[Row],
    *,
    path: str,
    query: Mapping[str, str],
    position: Callable[[Row], Sequence[Any]],
    rows_max: int = ROWS_MAX,
) -> Rows[Row]:
    """Return a page of what was found, where the query asked for one row more than a page has.

    `position`: what the next page begins after. Filters of the query stay in the addresses.
    """
    filters = {name: value for name, value in query.items() if name != "cursor" and value}
    shown = found[:rows_max]
    after = address(path, filters | {"cursor": encode(*position(shown[-1]))}) if shown else None
    return Rows(
        shown,
        first=address(path, filters) if "cursor" in query else None,
        next=after if len(found) > rows_max else None,
    )


def continued(
    page: Rows[Row], *, path: str, query: Mapping[str, str], position: Sequence[Any]
) -> Rows[Row]:
    """Return a page whose next page begins after a position: a search goes on from there."""
    filters = {name: value for name, value in query.items() if name != "cursor" and value}
    return Rows(
        page.rows,
        first=page.first,
        next=address(path, filters | {"cursor": encode(*position)}),
    )


def address(path: str, query: Mapping[str, str]) -> str:
    """Return a path with a query."""
    return f"{path}?{urlencode(query)}" if query else path


def encode(*position: Any) -> str:
    """Return a cursor for a position: times, ids, numbers and texts."""
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).decode().rstrip("=")


def decode(query: Mapping[str, str], *kinds: type) -> tuple[Any, ...] | None:
    """Return the position of the query's cursor, None without one.

    `kinds`: its parts, of str, int, datetime and UUID. Raises InvalidRequestError where the cursor
    has other parts.
    """
    text = query.get("cursor", "")
    if not text:
        return None
    try:
        if len(text) > CURSOR_LENGTH_MAX:
            raise ValueError  # noqa: TRY301 - one error for every cause
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        parts: tuple[Any, ...] = msgspec.json.decode(raw, type=tuple[kinds])  # type: ignore[valid-type]
        return tuple(map(_comparable, parts))
    except (ValueError, binascii.Error, msgspec.DecodeError):
        raise InvalidRequestError(WRONG) from None


def _comparable(part: Any) -> Any:
    """Return a part that PostgreSQL can compare with; raise ValueError where it cannot."""
    is_wrong = (
        (isinstance(part, str) and "\0" in part)
        or (isinstance(part, int) and not -SEQ_MAX <= part <= SEQ_MAX)
        or (isinstance(part, datetime) and part.tzinfo is None)
    )
    if is_wrong:
        raise ValueError(part)
    return in_utc(part) if isinstance(part, datetime) else part
