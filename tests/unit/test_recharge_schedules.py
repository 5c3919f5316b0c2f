"""When a schedule runs, and where a month begins and ends."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.recharge import rules
from shared.recharge.model import Schedule

moments = st.datetimes(
    min_value=datetime(1999, 1, 1),  # noqa: DTZ001 - the zone is the strategy's
    max_value=datetime(2101, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


@given(moments, st.integers(1, 31))
def test_a_monthly_schedule_runs_once_in_every_month(after: datetime, day: int) -> None:
    runs = [rules.next_run(Schedule.MONTHLY, day, after)]
    for _ in range(48):
        runs.append(rules.next_run(Schedule.MONTHLY, day, runs[-1]))
    assert runs[0] > after
    for earlier, later in pairwise(runs):
        assert later.year * 12 + later.month - earlier.year * 12 - earlier.month == 1
    for run in runs:
        assert run.day == min(day, calendar.monthrange(run.year, run.month)[1])
        assert (run.hour, run.minute, run.second, run.microsecond) == (0, 0, 0, 0)


@given(moments, st.integers(1, 31))
def test_a_run_that_is_asked_for_late_is_the_same_one(after: datetime, day: int) -> None:
    """Whenever between two runs somebody asks, the answer is the later one: none is passed over."""
    run = rules.next_run(Schedule.MONTHLY, day, after)
    just_before = run - timedelta(microseconds=1)
    assert rules.next_run(Schedule.MONTHLY, day, just_before) == run
    assert rules.next_run(Schedule.MONTHLY, day, run) > run
    assert run - after <= timedelta(days=31)


@given(moments, st.integers(1, 7))
def test_a_weekly_schedule_runs_every_seven_days(after: datetime, day: int) -> None:
    first = rules.next_run(Schedule.WEEKLY, day, after)
    assert timedelta(0) < first - after <= timedelta(days=7)
    assert first.isoweekday() == day
    assert rules.next_run(Schedule.WEEKLY, day, first) == first + timedelta(days=7)


@pytest.mark.parametrize(
    ("after", "day", "expected"),
    [
        ("2026-01-31", 31, "2026-02-28"),
        ("2026-02-28", 31, "2026-03-31"),
        ("2028-01-31", 30, "2028-02-29"),
        ("2028-02-29", 29, "2028-03-29"),
        ("2100-01-31", 29, "2100-02-28"),
        ("2026-12-31", 31, "2027-01-31"),
        ("2026-12-05", 5, "2027-01-05"),
    ],
)
def test_a_short_month_runs_on_its_last_day(after: str, day: int, expected: str) -> None:
    moment = datetime.fromisoformat(after).replace(tzinfo=UTC)
    assert rules.next_run(Schedule.MONTHLY, day, moment).date().isoformat() == expected


@given(moments)
def test_months_follow_each_other_without_a_gap(now: datetime) -> None:
    start, after = rules.month_start(now), rules.month_after(now)
    assert start <= now < after
    assert (start.day, after.day) == (1, 1)
    assert after - start == timedelta(days=calendar.monthrange(now.year, now.month)[1])
