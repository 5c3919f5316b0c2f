"""A name or a reason has a character that can be seen, and no mark that turns its direction."""

from __future__ import annotations

import pytest

from shared.errors import ValidationError
from shared.printable import is_visible
from shared.reasons import check_reason

NOTHING_TO_SEE = ["", " ", "\t\r\n", "\u00a0\u3000\u2003", "\u200b\ufeff\u2060", "\u202e", "\0\x7f"]


@pytest.mark.parametrize("text", NOTHING_TO_SEE)
def test_spaces_controls_and_marks_are_not_seen(text: str) -> None:
    assert not is_visible(text)


@pytest.mark.parametrize("text", ["jo", " jo ", "\u202ejo", "-", "ä", "名", "\u200bx"])
def test_one_character_is_enough(text: str) -> None:
    assert is_visible(text)


@pytest.mark.parametrize("text", NOTHING_TO_SEE)
def test_a_reason_is_seen(text: str) -> None:
    with pytest.raises(ValidationError, match="say why"):
        check_reason(text)
