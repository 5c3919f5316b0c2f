"""Short texts that people write and others read: names, descriptions and reasons."""

from __future__ import annotations

# They join the characters of Persian and Indic words and of emoji, and show nothing by themselves.
_JOINERS = str.maketrans("", "", "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}")


def is_printable(text: str) -> bool:
    """Return whether a text has no control characters or marks that turn its direction."""
    return text.translate(_JOINERS).isprintable()


def is_visible(text: str) -> bool:
    """Return whether a text has a character that can be seen.

    Spaces of any kind cannot, nor can controls, marks of direction and joiners of no width.
    """
    return any(character.isprintable() and not character.isspace() for character in text)


def is_name(text: str, *, length_max: int) -> bool:
    """Return whether a text is printable, can be seen, and is at most so many characters long."""
    return len(text) <= length_max and is_printable(text) and is_visible(text)
