"""The arithmetic of the simulator's billing: shares, discounts, taxes, periods."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.stripe import periods, totals


def rate(percentage: float, *, inclusive: bool) -> dict[str, Any]:
    return {"id": f"txr_{percentage}", "inclusive": inclusive, "percentage": percentage}


def coupon(percent_off: float | None = None, amount_off: int | None = None) -> dict[str, Any]:
    return {"percent_off": percent_off, "amount_off": amount_off}


def moment(*date: int) -> int:
    return int(datetime(*date, tzinfo=UTC).timestamp())  # type: ignore[misc,arg-type]


@given(st.integers(0, 10**8), st.lists(st.integers(0, 10**6), min_size=1, max_size=20))
def test_the_parts_of_an_amount_add_up_to_it(amount: int, weights: list[int]) -> None:
    parts = totals.spread(amount, weights)
    assert sum(parts) == (amount if any(weights) else 0)
    assert min(parts) >= 0


@given(st.integers(0, 10**8), st.integers(1, 10**7), st.integers(0, 10**7))
def test_used_and_unused_time_add_up_to_the_amount(amount: int, whole: int, at: int) -> None:
    rest = periods.left(amount, (0, whole), at)
    assert 0 <= rest <= amount
    used = amount - periods.left(amount, (0, whole), whole - min(at, whole))
    assert abs(rest - used) <= 1


def test_a_discount_comes_off_before_exclusive_tax() -> None:
    line = totals.Line(amount=2500, rates=[rate(20, inclusive=False)])
    totals.compute([line], [coupon(percent_off=10)])
    assert (line.discount, line.tax, line.total) == (250, 450, 2700)


def test_inclusive_tax_is_a_part_of_the_amount() -> None:
    line = totals.Line(amount=1190, rates=[rate(19, inclusive=True)])
    totals.compute([line], [])
    assert (line.tax, line.inclusive_tax, line.total, line.taxes[0].taxable) == (
        190,
        190,
        1190,
        1000,
    )


def test_what_is_taken_back_has_negative_tax_and_no_discount() -> None:
    back = totals.Line(amount=-1000, rates=[rate(20, inclusive=False)])
    due = totals.Line(amount=3000, rates=[rate(20, inclusive=False)])
    totals.compute([back, due], [coupon(amount_off=500)])
    assert (back.discount, back.tax, back.total) == (0, -200, -1200)
    assert (due.discount, due.tax, due.total) == (500, 500, 3000)


@pytest.mark.parametrize(
    ("start", "interval", "count", "end"),
    [
        ((2026, 1, 31), "month", 1, (2026, 2, 28)),
        ((2026, 2, 28), "month", 1, (2026, 3, 31)),
        ((2026, 11, 30), "month", 3, (2027, 2, 28)),
        ((2024, 2, 29), "year", 1, (2025, 2, 28)),
        ((2026, 12, 31), "day", 2, (2027, 1, 2)),
        ((2026, 12, 31), "week", 1, (2027, 1, 7)),
    ],
)
def test_a_period_ends_on_the_anchors_day_or_the_months_last(
    start: tuple[int, ...], interval: str, count: int, end: tuple[int, ...]
) -> None:
    recurring = {"interval": interval, "interval_count": count}
    anchor = moment(2024, 1, 31) if interval == "month" else moment(*start)
    assert periods.end_of(moment(*start), recurring, anchor) == moment(*end)
