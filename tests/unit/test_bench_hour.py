"""What the benchmark of an hour calls growth without a reason."""

from __future__ import annotations

import pytest

from bench.hour import MEBIBYTE, Relation, grown_without_rows


@pytest.mark.parametrize(
    ("before", "after", "grown"),
    [
        # Twice the rows in twice the space.
        (Relation(100_000, 50 * MEBIBYTE), Relation(200_000, 100 * MEBIBYTE), False),
        # The same rows in twice the space: dead rows that nothing cleans up.
        (Relation(100_000, 50 * MEBIBYTE), Relation(100_000, 100 * MEBIBYTE), True),
        # A queue's index with a few entries and some pages.
        (Relation(3, MEBIBYTE // 8), Relation(0, MEBIBYTE), False),
        (Relation(3, MEBIBYTE // 8), Relation(0, 9 * MEBIBYTE), True),
        # Fewer rows, and space that is not given back.
        (Relation(900, 8 * MEBIBYTE), Relation(10, 8 * MEBIBYTE), False),
    ],
)
def test_what_grows_by_more_than_its_entries_is_named_with_its_sizes(
    before: Relation, after: Relation, grown: bool
) -> None:
    found = grown_without_rows({"t": before}, {"t": after})

    assert [line.split()[0] for line in found] == (["t"] if grown else [])


def test_a_new_table_may_take_a_mebibyte() -> None:
    small, large = Relation(1, MEBIBYTE), Relation(1, 3 * MEBIBYTE)

    found = grown_without_rows({}, {"small": small, "large": large})

    assert found == ["large 0.0 to 3.0 MiB, 0 to 1 entries"]
