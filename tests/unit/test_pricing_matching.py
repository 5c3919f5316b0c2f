"""Which price is valid for a name."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from shared.pricing.files import read
from shared.pricing.matching import PriceIndex, matches
from shared.pricing.model import Subject

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


def find(name: str, *patterns: str, at: datetime = NOON) -> str | None:
    """Return the pattern whose price is valid for a name."""
    text = 'name = "b"\n' + "\n".join(
        f'[[prices]]\nmodels = ["{pattern.partition(" ")[0]}"]\n{pattern.partition(" ")[2]}\n'
        '[prices.measures]\nimages = "1"'
        for pattern in patterns
    )
    price = PriceIndex(read(text, toml=True)).find(Subject.MODEL, name, at)
    if price is None:
        return None
    return price.patterns[0] + (f" {price.hours[0].start:%H}" if price.hours else "")


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("gpt-*", "gpt-", True),
        ("gpt-*", "GPT-4o", True),
        ("gpt-*", "xgpt-4o", False),
        ("*-mini", "o4-mini", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("a*b*c", "abc", True),
        ("a*b*c", "acb", False),
        ("a*bc*c", "abc", False),
        ("a.c", "abc", False),
        ("*", "anything", True),
    ],
)
def test_a_wildcard_matches_any_text(*, pattern: str, name: str, expected: bool) -> None:
    assert matches(pattern, name) is expected


def test_an_exact_name_precedes_every_glob() -> None:
    assert find("gpt-4o", "gpt-4*", "gpt-4o", "*") == "gpt-4o"


def test_of_globs_the_longest_literal_prefix_precedes() -> None:
    patterns = ("gpt-*", "gpt-4*-mini", "*mini", "gpt-4o*x")
    assert find("gpt-4o-mini", *patterns) == "gpt-4*-mini"
    assert find("gpt-4o", *patterns) == "gpt-*"
    assert find("o4-mini", *patterns) == "*mini"
    assert find("o4", *patterns) is None


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("00:29:59.999999", "m 16"),
        ("00:30:00", "m"),
        ("16:29:59.999999", "m"),
        ("16:30:00", "m 16"),
        ("23:59:59.999999", "m 16"),
    ],
)
def test_hours_begin_and_end_at_their_exact_moment(time: str, expected: str) -> None:
    at = datetime.fromisoformat(f"2026-11-28T{time}+00:00")
    assert find("m", "m", 'm hours = ["16:30-00:30"]', at=at) == expected


def test_a_name_outside_its_hours_has_no_price() -> None:
    assert find("m", 'm hours = ["16:30-00:30"]') is None


def test_a_thousand_globs_are_looked_up_by_their_prefix() -> None:
    patterns = [f"model-{number}-*" for number in range(1_000)]
    assert find("model-777-x", *patterns) == "model-777-*"
