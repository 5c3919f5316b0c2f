"""What credits cost: the server's price, exact or refused."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ValidationError
from shared.money import credits_from_minor_units
from shared.payments import prices

RATES = [Decimal(1), Decimal(100), Decimal("0.01"), Decimal(3)]


def price(amount: Decimal | str, currency: str = "usd", rate: Decimal = Decimal(1)) -> int:
    return prices.purchase_price(
        Decimal(amount), currency, rate, units_min=Decimal(1), units_max=Decimal(10_000)
    )


@given(
    st.decimals(min_value="-1e30", max_value="1e30", places=9, allow_nan=False)
    | st.decimals(min_value=1, max_value=30_000, places=2),
    st.sampled_from(["usd", "jpy", "kwd", "isk"]),
    st.sampled_from(RATES),
)
def test_a_price_buys_exactly_what_was_asked_within_the_limits_or_is_refused(
    amount: Decimal, currency: str, rate: Decimal
) -> None:
    try:
        minor = price(amount, currency, rate)
    except ValidationError:
        return
    assert credits_from_minor_units(minor, currency, rate) == amount
    assert 1 <= amount / rate <= 10_000


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [("25", "usd", 2500), ("1", "usd", 100), ("10000", "usd", 1_000_000), ("500", "jpy", 500),
     ("1.010", "kwd", 1010), ("5", "isk", 500)],
)  # fmt: skip
def test_a_price_is_in_the_smallest_unit(amount: str, currency: str, minor: int) -> None:
    assert price(amount, currency) == minor


@pytest.mark.parametrize(
    "amount", ["0", "-5", "0.99", "10000.01", "25.001", "1e-400", "1e99", "1e400", "9" * 400]
)
def test_what_is_outside_of_the_limits_is_refused_however_large_or_small(amount: str) -> None:
    with pytest.raises(ValidationError):
        price(amount)
