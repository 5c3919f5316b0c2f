"""Validation of an organization's fields."""

from __future__ import annotations

import re
from decimal import Decimal
from uuid import UUID

from shared.errors import FieldError, ValidationError
from shared.ids import parse_id
from shared.money import rate_refusal
from shared.printable import is_name

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,98}[a-z0-9])?")
_CURRENCY = re.compile(r"[a-z]{3}")
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,190}")
NAME_LENGTH_MAX = 200
# Stands for "no organization" where an Idempotency-Key belongs to none.
NIL = UUID(int=0)
# Where a list by descending id begins. Source: RFC 9562, 5.10
MAX = UUID(int=2**128 - 1)


def check(
    *,
    slug: str,
    name: str,
    currency: str,
    email: str | None = None,
    organization_id: UUID | None = None,
    credits_per_unit: Decimal = Decimal(1),
) -> None:
    """Raise ValidationError with every invalid field and the reason."""
    errors: list[FieldError] = []
    if organization_id == NIL:
        errors.append(_wrong("id", "must not be all zeros"))
    if organization_id == MAX:
        errors.append(_wrong("id", "must not be all ones"))
    if not _SLUG.fullmatch(slug):
        errors.append(_wrong("slug", "1 to 100 of a-z, 0-9 and -, not - at an end"))
    elif parse_id(slug) is not None:
        errors.append(_wrong("slug", "must not look like an id"))
    if not _CURRENCY.fullmatch(currency):
        errors.append(_wrong("currency", "an ISO 4217 code in lower case, such as usd"))
    elif refusal := rate_refusal(currency, credits_per_unit):
        errors.append(_wrong("currency", f"the rate PREPAID_CREDITS_PER_UNIT {refusal}"))
    _refuse(errors + _person_facing(name, email))


def check_change(*, name: str | None, email: str | None) -> None:
    """Raise ValidationError with every invalid field of an update."""
    _refuse(_person_facing(name, email))


def _person_facing(name: str | None, email: str | None) -> list[FieldError]:
    errors: list[FieldError] = []
    if name is not None and not is_name(name, length_max=NAME_LENGTH_MAX):
        errors.append(_wrong("name", f"1 to {NAME_LENGTH_MAX} printable characters"))
    if email is not None and not (_EMAIL.fullmatch(email) and email.isprintable()):
        errors.append(_wrong("email", "an address such as jo@example.com"))
    return errors


def _refuse(errors: list[FieldError]) -> None:
    if errors:
        summary = "; ".join(f"{error['loc'][-1]}: {error['msg']}" for error in errors)
        raise ValidationError(summary, errors=errors)


def _wrong(field: str, message: str) -> FieldError:
    return {"loc": ["body", field], "msg": message, "type": "value_error"}
