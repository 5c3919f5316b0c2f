"""Months in UTC, as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from shared.months import Month


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026",
        "2026-1",
        "2026-13",
        "2026-00",
        "1969-12",
        "9000-01",
        "2026-01-01",
        "\uff12\uff10\uff12\uff16-01",
    ],
)
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a month"):
        Month.parse(text)


def test_a_month_reaches_until_the_first_moment_of_the_next() -> None:
    month = Month.parse("2026-12")
    assert (month.start, month.end) == (
        datetime(2026, 12, 1, tzinfo=UTC),
        datetime(2027, 1, 1, tzinfo=UTC),
    )
    assert (str(month), str(month.next)) == ("2026-12", "2027-01")
    assert Month.parse("8999-12").end == datetime(9000, 1, 1, tzinfo=UTC)


def test_a_moment_is_in_its_month_of_utc() -> None:
    tokyo = timezone(timedelta(hours=9))
    assert Month.of(datetime(2026, 3, 1, 8, 59, tzinfo=tokyo)) == Month(2026, 2)
