"""Which schema a release can work with."""

from __future__ import annotations

import pytest

from shared.schema.rules import problem


@pytest.mark.parametrize("current", ["0007", "0008", "0010"])
def test_a_release_works_with_the_schema_that_it_needs_and_with_later_ones(current: str) -> None:
    assert problem(current, "0007") is None


def test_an_earlier_schema_is_named_with_what_to_do() -> None:
    assert problem("0009", "0010") == (
        "the schema is at 0009, this release needs 0010: run prepaid migrate"
    )


def test_a_database_without_a_schema_says_what_to_do() -> None:
    assert problem(None, "0010") == (
        "the database has no schema, and this release needs 0010: run prepaid migrate"
    )
