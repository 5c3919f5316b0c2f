"""Numbers with their nouns, for people."""

from __future__ import annotations

from decimal import Decimal

from shared.money import plain


def counted(number: int | Decimal, noun: str) -> str:
    """Return a number with its noun: "1 credit", "2.5 credits", "2,000 events"."""
    text = plain(number) if isinstance(number, Decimal) else f"{number:,}"
    return f"{text} {of_number(noun, number)}"


def of_number(noun: str, number: int | Decimal) -> str:
    """Return a noun in the singular for 1, else in the plural."""
    return noun if number == 1 else f"{noun}s"


def is_or_are(number: int | Decimal) -> str:
    """Return the verb of a number."""
    return "is" if number == 1 else "are"
