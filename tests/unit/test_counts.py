"""A number and its noun agree."""

from __future__ import annotations

from decimal import Decimal

import pytest

from shared.counts import counted, is_or_are


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 events"),
        (1, "1 event"),
        (2000, "2,000 events"),
        (Decimal("1.000"), "1 event"),
        (Decimal("2.50"), "2.5 events"),
        (Decimal(-1), "-1 events"),
    ],
)
def test_a_noun_is_singular_for_one_alone(number: int | Decimal, text: str) -> None:
    assert counted(number, "event") == text


def test_a_verb_is_singular_for_one_alone() -> None:
    assert [is_or_are(n) for n in (0, 1, Decimal("1.0"), Decimal("0.5"))] == [
        "are", "is", "is", "are",
    ]  # fmt: skip
