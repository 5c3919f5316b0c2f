"""The kinds of fields that requests and answers have, with what the API's document says of them."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated

import msgspec

from shared.errors import ValidationError
from shared.money import json_number

_NUMBER = re.compile(rb"-?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,2})?")

# A JSON number that is kept digit by digit: a float would round it.
Number = Annotated[
    msgspec.Raw,
    msgspec.Meta(extra_json_schema={"type": "number"}, description="Exact to 9 decimals."),
]
NumberOrNull = Annotated[
    msgspec.Raw,
    msgspec.Meta(
        extra_json_schema={"type": ["number", "null"]}, description="Exact to 9 decimals."
    ),
]
NULL = msgspec.Raw(b"null")


def null() -> msgspec.Raw:
    """Return null: the default of a number that may be left out."""
    return NULL


DECIMILLICENTS = Decimal("1e-7")


class Request(msgspec.Struct, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A body or a query in camelCase; a field that is not declared is refused by name."""


class Shown(msgspec.Struct, kw_only=True, rename="camel"):
    """An answer in camelCase."""


def number(raw: msgspec.Raw, *location: str | int) -> Decimal:
    """Read a JSON number exactly; raise ValidationError, which names where it stands."""
    text = bytes(raw).strip()
    if not _NUMBER.fullmatch(text):
        raise refused(location, "a JSON number is expected")
    return Decimal(text.decode())


def number_or_none(raw: msgspec.Raw, *location: str | int) -> Decimal | None:
    """Read a JSON number or null exactly."""
    return None if bytes(raw).strip() == b"null" else number(raw, *location)


def shown(value: Decimal) -> msgspec.Raw:
    """Write an amount of credits as a JSON number."""
    return json_number(value)


def shown_or_null(value: Decimal | None) -> msgspec.Raw:
    """Write an amount of credits, or null."""
    return NULL if value is None else json_number(value)


def to_decimillicents(value: Decimal) -> int:
    """Return credits in units of 1e-7, toward zero: what is smaller cannot be shown there."""
    return int(value / DECIMILLICENTS)


def from_decimillicents(value: int) -> Decimal:
    """Return the credits of so many units of 1e-7."""
    return value * DECIMILLICENTS


def refused(location: tuple[str | int, ...], message: str) -> ValidationError:
    """Return a ValidationError about one field."""
    name = ".".join(str(part) for part in location[1:]) or str(location[0])
    return ValidationError(
        f"{name}: {message}",
        errors=[{"loc": list(location), "msg": message, "type": "value_error"}],
    )


LIMIT_MAX = 100
LIMIT_DEFAULT = 50
Limit = Annotated[int, msgspec.Meta(ge=1, le=LIMIT_MAX)]


class PageQuery(Request):
    """A page of a list: how many, and after which cursor."""

    limit: Limit = LIMIT_DEFAULT
    cursor: str | None = None
