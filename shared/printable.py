"""Short texts that people write and others read: names and descriptions."""

from __future__ import annotations

# They join the characters of Persian and Indic words and of emoji, and show nothing by themselves.
_JOINERS = str.maketrans("", "", "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}")


def is_printable(text: str) -> bool:
    """Return whether a text has no control characters or marks that turn its direction."""
    return text.translate(_JOINERS).isprintable()


def is_name(text: str, *, length_max: int) -> bool:
    """Return whether a text is printable, not blank, and at most so many characters long."""
    is_blank = not text.translate(_JOINERS).strip()
    return len(text) <= length_max and is_printable(text) and not is_blank
