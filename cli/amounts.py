"""Amounts of credits on the command line."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from shared.errors import ValidationError


def decimal(option: str, text: str) -> Decimal:
    """Return a finite number; raise ValidationError where it is none."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite():
        raise ValidationError(f"{option} must be a number such as 25 or 0.5")
    return value
