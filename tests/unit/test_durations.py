"""ISO 8601 durations: what is read, what is refused, and what a month after a day is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from shared.durations import Duration, parse_expiry

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("P1Y", datetime(2027, 1, 31, 12, tzinfo=UTC)),
        ("P1M", datetime(2026, 2, 28, 12, tzinfo=UTC)),
        ("P13M", datetime(2027, 2, 28, 12, tzinfo=UTC)),
        ("P11M", datetime(2026, 12, 31, 12, tzinfo=UTC)),
        ("P2W", datetime(2026, 2, 14, 12, tzinfo=UTC)),
        ("P30D", datetime(2026, 3, 2, 12, tzinfo=UTC)),
        ("PT12H", datetime(2026, 2, 1, 0, tzinfo=UTC)),
        ("P1Y1M1W1DT1H1M1S", datetime(2027, 3, 8, 13, 1, 1, tzinfo=UTC)),
        ("P100Y", datetime(2126, 1, 31, 12, tzinfo=UTC)),
    ],
)
def test_a_duration_is_added_by_the_calendar(text: str, after: datetime) -> None:
    assert Duration.parse(text).after(NOON) == after


def test_a_year_after_a_leap_day_is_the_last_of_february() -> None:
    leap_day = datetime(2028, 2, 29, tzinfo=UTC)
    assert Duration.parse("P1Y").after(leap_day) == datetime(2029, 2, 28, tzinfo=UTC)
    assert Duration.parse("P4Y").after(leap_day) == datetime(2032, 2, 29, tzinfo=UTC)


def test_months_are_those_of_utc() -> None:
    east = datetime(2026, 3, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    assert Duration.parse("P1M").after(east) == datetime(2026, 3, 28, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "", "P", "PT", "P1", "1Y", "P1YT", "p1y", "P-1Y", "-P1Y", "+P1Y", "P1.5Y", "P1,5D",
        "PT1.5H", "P1D1Y", "P1H", "PT1D", "P1Y ", " P1Y", "P1Y\n", "P٣D", "P0D", "P0Y0M", "PT0S",
        "P101Y", "P1201M", "P36501D", "P5215W", "P9999999D", "P1Y/P1M", "never", "365",
    ],
)  # fmt: skip
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|years"):
        Duration.parse(text)


def test_equal_durations_are_equal() -> None:
    assert Duration.parse("P1Y") == Duration.parse("P12M")
    assert Duration.parse("P1W") == Duration.parse("P7D")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("P1D", NOON + timedelta(days=1)),
        ("2999-01-31", datetime(2999, 1, 31, tzinfo=UTC)),
        ("2999-01-31T12:00:00+02:00", datetime(2999, 1, 31, 10, tzinfo=UTC)),
        ("2999-01-31T12:00:00Z", datetime(2999, 1, 31, 12, tzinfo=UTC)),
    ],
)
def test_an_expiry_is_a_duration_a_date_or_a_moment(text: str, moment: datetime) -> None:
    assert parse_expiry(text, NOON) == moment


@pytest.mark.parametrize(
    "text", ["", "P0D", "soon", "2999-01-31T12:00:00", "2020-01-01", "2999-02-30", "1y"]
)
def test_what_is_no_moment_to_come_is_no_expiry(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_expiry(text, NOON)


def test_a_refused_expiry_says_what_is_understood() -> None:
    with pytest.raises(ValueError, match="'soon' is not a duration such as P90D, a date"):
        parse_expiry("soon", NOON)
