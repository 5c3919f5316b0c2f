"""Texts in which a person is to read something."""

from __future__ import annotations


def is_visible(text: str) -> bool:
    """Whether a text has a character that can be seen.

    Spaces of any kind cannot, nor can controls, marks of direction and joiners of no width.
    """
    return any(character.isprintable() and not character.isspace() for character in text)
