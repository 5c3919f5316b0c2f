"""Which moment's prices usage has, and when a change of prices begins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from shared.pricing import rules
from shared.pricing.model import Subject, UsageItem

NOW = datetime(2026, 11, 27, 12, 0, 0, 500_000, tzinfo=UTC)
HOUR, SECOND, TICK = timedelta(hours=1), timedelta(seconds=1), timedelta(microseconds=1)


@pytest.mark.parametrize("is_limited", [True, False])
def test_usage_has_the_price_of_its_moment_and_never_one_to_come(*, is_limited: bool) -> None:
    def moment(happened: datetime | None) -> datetime:
        return rules.pricing_moment(happened, now=NOW, is_limited=is_limited)

    assert moment(None) == NOW
    assert moment(NOW + HOUR) == NOW
    assert moment(NOW - HOUR) == NOW - HOUR
    earlier = NOW - HOUR - TICK
    assert moment(earlier) == (NOW - HOUR if is_limited else earlier)


def test_a_change_begins_after_a_notice_unless_it_replaces_nothing() -> None:
    assert rules.activation_moment(None, now=NOW, first=True) == NOW
    assert rules.activation_moment(None, now=NOW, first=False) == NOW + 5 * SECOND


@pytest.mark.parametrize(
    ("first", "earliest", "named"),
    [
        (True, NOW, "2026-11-27T12:00:00+00:00"),
        (False, NOW + 5 * SECOND, "2026-11-27T12:00:05+00:00"),
    ],
)
def test_a_change_may_begin_at_its_earliest_moment_and_not_before(
    earliest: datetime, named: str, *, first: bool
) -> None:
    assert rules.activation_moment(earliest, now=NOW, first=first) == earliest
    assert rules.activation_moment(earliest - TICK, now=NOW, first=first) == (
        f"must be {named} or later: what was charged keeps its price, and every process knows of a"
        " change after 5 seconds. Leave it out for the earliest moment"
    )


def test_a_change_may_begin_within_ten_years() -> None:
    last = NOW + timedelta(days=3_660)
    assert rules.activation_moment(last, now=NOW, first=True) == last
    beyond = rules.activation_moment(last + TICK, now=NOW, first=True)
    assert beyond == "must be within 3660 days"


def test_a_moment_without_a_time_zone_is_refused() -> None:
    nowhere = NOW.replace(tzinfo=None)
    refusal = "must name its time zone"
    assert rules.activation_moment(nowhere, now=NOW, first=True) == refusal


@pytest.mark.parametrize(
    ("item", "subject"),
    [
        (UsageItem(model="m", measures={"images": Decimal(1)}), (Subject.MODEL, "m")),
        (UsageItem(meter="n", measures={"images": Decimal(1)}), (Subject.METER, "n")),
        (UsageItem(measures={"images": Decimal(1)}), (Subject.METER, "")),
    ],
)
def test_an_item_is_of_a_model_or_a_meter(item: UsageItem, subject: tuple[Subject, str]) -> None:
    assert rules.subject_of(item) == subject
