"""Field types of requests and responses, with their OpenAPI schemas, and how to parse them."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated

import msgspec

from shared.errors import ValidationError
from shared.ledger.rules import AMOUNT_MAX, TEXT_LENGTH_MAX
from shared.money import json_number

_NUMBER = re.compile(rb"-?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,2})?")

# A JSON number in its original digits: a float would round it.
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
    """Return null, the default of an optional number."""
    return NULL


_INTEGER = re.compile(rb"-?[0-9]{1,40}")
# 10,000,000 decimillicents are one credit.
DECIMILLICENT = Decimal("1e-7")
DECIMILLICENTS_IN_CREDIT = 10_000_000

# Integers above 2^64 are valid JSON, and msgspec rejects them as `int`.
Decimillicents = Annotated[
    msgspec.Raw,
    msgspec.Meta(extra_json_schema={"type": "integer"}, description="1e-7 credits."),
]
DecimillicentsOrNull = Annotated[
    msgspec.Raw,
    msgspec.Meta(extra_json_schema={"type": ["integer", "null"]}, description="1e-7 credits."),
]


# Free text. PostgreSQL rejects text with NUL.
Text = Annotated[str, msgspec.Meta(max_length=TEXT_LENGTH_MAX, pattern=r"^[^\x00]*$")]
# The name of a person or an account.
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]


class Request(msgspec.Struct, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A body or a query in camelCase. Unknown fields are refused by name."""


class Response(msgspec.Struct, kw_only=True, rename="camel"):
    """A response body in camelCase."""


def parse_number(raw: msgspec.Raw, *location: str | int) -> Decimal:
    """Parse a JSON number exactly; raise ValidationError with its location."""
    text = bytes(raw).strip()
    if not _NUMBER.fullmatch(text):
        raise invalid(location, "must be a JSON number")
    return Decimal(text.decode())


def parse_number_or_none(raw: msgspec.Raw, *location: str | int) -> Decimal | None:
    """Parse a JSON number or null exactly."""
    return None if bytes(raw).strip() == b"null" else parse_number(raw, *location)


def format_number(value: Decimal) -> msgspec.Raw:
    """Format an amount of credits as a JSON number."""
    return json_number(value)


def format_number_or_null(value: Decimal | None) -> msgspec.Raw:
    """Format an amount of credits, or null."""
    return NULL if value is None else json_number(value)


def format_decimillicents(value: Decimal) -> msgspec.Raw:
    """Format credits in units of 1e-7, rounded toward zero."""
    return msgspec.Raw(b"%d" % int(value * DECIMILLICENTS_IN_CREDIT))


def format_decimillicents_or_null(value: Decimal | None) -> msgspec.Raw:
    """Format credits in units of 1e-7, or null."""
    return NULL if value is None else format_decimillicents(value)


def parse_decimillicents(raw: msgspec.Raw, *location: str | int) -> Decimal:
    """Parse units of 1e-7 as credits; raise ValidationError with the location."""
    text = bytes(raw).strip()
    if not _INTEGER.fullmatch(text):
        raise invalid(location, "must be an integer, in units of 1e-7 credits")
    value = int(text) * DECIMILLICENT
    if abs(value) > AMOUNT_MAX:
        raise invalid(location, f"must be at most {AMOUNT_MAX / DECIMILLICENT:f}")
    return value


def parse_decimillicents_or_none(raw: msgspec.Raw, *location: str | int) -> Decimal | None:
    """Parse units of 1e-7 as credits, or null."""
    return None if bytes(raw).strip() == b"null" else parse_decimillicents(raw, *location)


def invalid(location: tuple[str | int, ...], message: str) -> ValidationError:
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
    """The page of a list: its size, and the cursor that it starts after."""

    limit: Limit = LIMIT_DEFAULT
    cursor: str | None = None
