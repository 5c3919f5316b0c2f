"""A schema that is behind is described by what differs, never by two equal numbers."""

from __future__ import annotations

from typing import Any, cast

import pytest

from cli.schema_differences import differences
from migrations.runner import MigrationStatus

UP_TO_DATE: dict[str, Any] = {
    "current": "0031",
    "head": "0031",
    "functionsCurrent": True,
    "indexesMissing": [],
    "indexesInvalid": [],
    "upToDate": True,
    "newer": False,
}


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, []),
        ({"current": None}, ["the schema is at None, this release needs 0031"]),
        (
            {"current": "0030", "functionsCurrent": False},
            ["the schema is at 0030, this release needs 0031"],
        ),
        (
            {"current": "0032", "functionsCurrent": False, "newer": True},
            ["the schema is at 0032, of a later release than this one (0031)"],
        ),
        ({"functionsCurrent": False}, ["the SQL functions are not those of this release"]),
        (
            {"indexesMissing": ["holds_by_key"], "indexesInvalid": ["holds_by_age"]},
            ["missing: holds_by_key", "not finished: holds_by_age"],
        ),
    ],
)
def test_each_difference_is_a_phrase(changes: dict[str, Any], lines: list[str]) -> None:
    assert differences(cast("MigrationStatus", UP_TO_DATE | changes)) == lines
