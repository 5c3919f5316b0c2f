"""Cursors: the position of a page, opaque to clients and validated."""

from __future__ import annotations

import base64
import binascii
from uuid import UUID

from api.framework import fields

LENGTH_MAX = 200
SEQ_DIGITS_MAX = 19
SEQ_BEYOND = 2**63 - 1  # above every row number
WRONG = "is not a cursor of this list"


def encode(kind: str, position: UUID | int | str) -> str:
    """Return an opaque cursor of one kind of list."""
    return base64.urlsafe_b64encode(f"1:{kind}:{position}".encode()).decode().rstrip("=")


def decode(kind: str, cursor: str) -> str:
    """Return the position of a cursor; raise ValidationError if it is not one of this list."""
    try:
        if len(cursor) > LENGTH_MAX:
            raise ValueError  # noqa: TRY301 - one error for every cause
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        version, cursor_kind, position = text.decode().split(":", 2)
        if (version, cursor_kind) != ("1", kind):
            raise ValueError  # noqa: TRY301
    except (ValueError, binascii.Error, UnicodeError):
        raise fields.invalid(("query", "cursor"), WRONG) from None
    return position


def decode_id(kind: str, cursor: str | None) -> UUID | None:
    """Return the id of a cursor, None without a cursor."""
    if cursor is None:
        return None
    try:
        return UUID(decode(kind, cursor))
    except ValueError:
        raise fields.invalid(("query", "cursor"), WRONG) from None


def decode_seq(kind: str, cursor: str | None) -> int:
    """Return the row number of a cursor, SEQ_BEYOND without a cursor."""
    if cursor is None:
        return SEQ_BEYOND
    position = decode(kind, cursor)
    if not (position.isascii() and position.isdigit() and len(position) < SEQ_DIGITS_MAX):
        raise fields.invalid(("query", "cursor"), WRONG)
    return int(position)
