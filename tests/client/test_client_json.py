"""Numbers are exact in both directions."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prepaid_client import exact_json, requests

DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, places=9)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | DECIMALS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(VALUES)
def test_what_is_written_is_json_and_read_again(value: object) -> None:
    written = exact_json.dumps(value)
    json.loads(written)
    assert exact_json.loads(written.encode()) == value


def test_a_decimal_keeps_its_digits() -> None:
    assert exact_json.dumps({"amount": Decimal("1E-9")}) == '{"amount":0.000000001}'
    assert exact_json.loads(b'{"amount": 0.100000000}')["amount"] == Decimal("0.1")


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("Infinity"), float("nan")])
def test_a_number_that_json_lacks_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="JSON"):
        exact_json.dumps(value)


def test_a_float_is_sent_as_it_is_written() -> None:
    body = requests.debit("acme", 0.1).body
    assert body is not None
    assert body["amount"] == Decimal("-0.1")
    with pytest.raises(ValueError, match="not positive"):
        requests.debit("acme", -1)
