from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.money import (
    THREE_DECIMAL_CURRENCIES,
    ZERO_DECIMAL_CURRENCIES,
    credits_from_minor_units,
    json_number,
    minor_unit_exponent,
    plain,
    rate_refusal,
)

CURRENCIES = st.sampled_from(["usd", "eur", "isk", "ugx", "mga", "jpy", "krw", "kwd", "tnd"])
# Every amount that the ledger's column holds: numeric(38, 9).
AMOUNTS = st.decimals(
    min_value=-(10**29) + 1, max_value=10**29 - 1, places=9, allow_nan=False, allow_infinity=False
)


@pytest.mark.parametrize(
    ("currency", "exponent"),
    [
        *(("usd", 2), ("eur", 2), ("isk", 2), ("ugx", 2), ("xyz", 2)),
        *(("jpy", 0), ("krw", 0), ("mga", 0), ("JPY", 0)),
        *(("kwd", 3), ("bhd", 3), ("KWD", 3)),
    ],
)
def test_a_currency_has_the_exponent_that_stripe_counts_in(currency: str, exponent: int) -> None:
    assert minor_unit_exponent(currency) == exponent


def test_no_currency_has_two_exponents() -> None:
    assert not ZERO_DECIMAL_CURRENCIES & THREE_DECIMAL_CURRENCIES


@given(amount=st.integers(-(10**17), 10**17), currency=CURRENCIES)
def test_at_one_credit_a_unit_an_amount_keeps_every_digit(amount: int, currency: str) -> None:
    credited = credits_from_minor_units(amount, currency, Decimal(1))
    assert credited * 10 ** minor_unit_exponent(currency) == amount


@given(
    amount=st.integers(1, 10**17),
    currency=CURRENCIES,
    rate=st.decimals(min_value="0.000000001", max_value=10**6, places=9),
)
def test_what_an_amount_buys_is_exact_or_refused(amount: int, currency: str, rate: Decimal) -> None:
    scale = minor_unit_exponent(currency)
    billionths, rest = divmod(amount * int(rate.scaleb(9)), 10**scale)
    try:
        credited = credits_from_minor_units(amount, currency, rate)
    except ValueError:
        assert rest or billionths >= 10**38
    else:
        assert not rest
        assert int(credited.scaleb(9)) == billionths


@given(one=st.integers(0, 10**15), two=st.integers(0, 10**15), currency=CURRENCIES)
def test_two_payments_buy_as_much_as_one_of_both(one: int, two: int, currency: str) -> None:
    def bought(amount: int) -> Decimal:
        return credits_from_minor_units(amount, currency, Decimal(100))

    assert bought(one) + bought(two) == bought(one + two)


@given(amount=AMOUNTS)
def test_a_written_amount_has_every_digit_and_neither_exponent_nor_trailing_zeros(
    amount: Decimal,
) -> None:
    text = plain(amount)
    assert Decimal(text) == amount
    assert "E" not in text
    assert text == "0" or not ("." in text and text.endswith("0"))


@given(amount=AMOUNTS)
def test_an_amount_in_json_is_a_number_with_every_digit(amount: Decimal) -> None:
    assert Decimal(bytes(json_number(amount)).decode()) == amount


@pytest.mark.parametrize(
    ("amount", "text"),
    [("0", "0"), ("0E-9", "0"), ("-0", "0"), ("100", "100"), ("1E+2", "100"), ("1.10", "1.1")],
)
def test_an_amount_is_written_plainly(amount: str, text: str) -> None:
    assert plain(Decimal(amount)) == text


@given(CURRENCIES, st.decimals(min_value=Decimal("1e-12"), max_value=1000, places=12))
def test_a_rate_is_taken_where_the_smallest_unit_can_be_credited(
    currency: str, rate: Decimal
) -> None:
    if rate_refusal(currency, rate) is None:
        assert credits_from_minor_units(1, currency, rate) > 0
    else:
        with pytest.raises(ValueError, match="1e-9"):
            credits_from_minor_units(1, currency, rate)
