"""Whose money an event is about is read from any payload, a malformed one too."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from shared.replay.money import EventMoney, money_of


def event(**about: Any) -> str:
    return json.dumps({"data": {"object": about}})


@pytest.mark.parametrize(
    ("payload", "money"),
    [
        (
            event(
                id="pi_1",
                object="payment_intent",
                amount=1500,
                amount_received=1000,
                currency="usd",
                customer="cus_1",
                metadata={"organization_id": "acme"},
            ),
            EventMoney("cus_1", Decimal("10.00"), "usd", "pi_1", "acme"),
        ),
        (
            event(
                id="cs_1",
                object="checkout.session",
                amount_total=500,
                currency="jpy",
                payment_intent={"id": "pi_2"},
                client_reference_id="globex",
            ),
            EventMoney(None, Decimal(500), "jpy", "pi_2", "globex"),
        ),
        (event(id="cus_3", object="customer"), EventMoney("cus_3")),
        (event(amount=True, currency=7, customer=[], metadata="x"), EventMoney()),
        ("[]", EventMoney()),
        ('{"data": 1}', EventMoney()),
        ("no JSON", EventMoney()),
        ("[" * 100_000, EventMoney()),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_money_is_read_as_far_as_it_is_there(payload: str, money: EventMoney) -> None:
    assert money_of(payload) == money
