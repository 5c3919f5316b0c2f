"""What an organization's fields may be."""

from __future__ import annotations

import re

from shared.errors import FieldError, ValidationError
from shared.ids import parse_id

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,98}[a-z0-9])?")
_CURRENCY = re.compile(r"[a-z]{3}")
NAME_LENGTH_MAX = 200


def check(*, slug: str, name: str, currency: str) -> None:
    """Raise ValidationError with every field that is wrong, and why."""
    found: list[FieldError] = []
    if not _SLUG.fullmatch(slug):
        found.append(_wrong("slug", "1 to 100 of a-z, 0-9 and -, not - at an end"))
    elif parse_id(slug) is not None:
        found.append(_wrong("slug", "must not look like an id"))
    if not 1 <= len(name) <= NAME_LENGTH_MAX or not name.isprintable():
        found.append(_wrong("name", f"1 to {NAME_LENGTH_MAX} printable characters"))
    if not _CURRENCY.fullmatch(currency):
        found.append(_wrong("currency", "an ISO 4217 code in lower case, such as usd"))
    if found:
        summary = "; ".join(f"{error['loc'][-1]}: {error['msg']}" for error in found)
        raise ValidationError(summary, errors=found)


def _wrong(field: str, message: str) -> FieldError:
    return {"loc": ["body", field], "msg": message, "type": "value_error"}
