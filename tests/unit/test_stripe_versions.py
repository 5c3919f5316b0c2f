"""Events of older API versions have the fields that those versions had, and lack newer ones."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.fixtures.stripe_versions import VERSIONS, Related, in_version

BASIL, TODAY = VERSIONS[2:]
BEFORE_BASIL = VERSIONS[:2]
PRICE = {
    "id": "price_1",
    "object": "price",
    "currency": "usd",
    "metadata": {"prepaid_credits": "250"},
    "recurring": {"interval": "month"},
    "unit_amount": 2000,
}
RELATED = Related(prices={"price_1": PRICE}, invoices={"pi_1": "in_1"}, charges={"pi_1": "ch_1"})


def event(kind: str, **values: Any) -> dict[str, Any]:
    subject = {"id": "x_1", "object": kind, **values}
    return {"id": "evt_1", "object": "event", "api_version": TODAY, "data": {"object": subject}}


def line(**parent: Any) -> dict[str, Any]:
    return {
        "id": "il_1",
        "object": "line_item",
        "amount": 2000,
        "parent": parent,
        "pricing": {"type": "price_details", "price_details": {"price": "price_1"}},
        "taxes": [
            {
                "amount": 300,
                "tax_behavior": "inclusive",
                "tax_rate_details": {"tax_rate": "txr_1"},
                "taxable_amount": 1700,
            }
        ],
    }


def invoice(*lines: dict[str, Any], **values: Any) -> dict[str, Any]:
    subscription = {"subscription": "sub_1", "metadata": {"plan": "pro"}}
    return event(
        "invoice",
        **{
            "id": "in_1",
            "status": "paid",
            "amount_paid": 2000,
            "amount_overpaid": 0,
            "lines": {"object": "list", "data": list(lines)},
            "parent": {"type": "subscription_details", "subscription_details": subscription},
            "total_taxes": [{"amount": 300, "tax_behavior": "inclusive"}],
            **values,
        },
    )


def subject(event: dict[str, Any], version: str) -> dict[str, Any]:
    found: dict[str, Any] = in_version(event, version, RELATED)["data"]["object"]
    return found


def test_an_event_of_todays_version_is_unchanged_and_none_is_changed_in_place() -> None:
    today = invoice(line())
    before = copy.deepcopy(today)
    assert in_version(today, TODAY) == before
    assert in_version(today, "2022-11-15") != before
    assert today == before


def test_a_version_that_is_not_in_the_list_is_refused() -> None:
    with pytest.raises(ValueError, match="2019-01-01"):
        in_version(invoice(), "2019-01-01")


@pytest.mark.parametrize("version", BEFORE_BASIL)
def test_an_invoice_named_its_payment_and_its_subscription(version: str) -> None:
    older = subject(invoice(), version)
    assert older["payment_intent"] == "pi_1"
    assert older["charge"] == "ch_1"
    assert older["paid"] is True
    assert older["subscription"] == "sub_1"
    assert older["subscription_details"] == {"metadata": {"plan": "pro"}}
    assert older["tax"] == 300
    assert not {"parent", "total_taxes", "amount_overpaid", "payments"} & older.keys()


def test_an_invoice_of_2025_03_31_names_its_subscription_as_todays_does() -> None:
    older = subject(invoice(line()), BASIL)
    assert older == invoice(line())["data"]["object"]


@pytest.mark.parametrize("version", BEFORE_BASIL)
def test_an_invoice_that_was_paid_elsewhere_had_nothing_in_amount_paid(version: str) -> None:
    related = Related(off_stripe={"in_2": 2000})
    older = in_version(invoice(id="in_2"), version, related)["data"]["object"]
    assert (older["paid"], older["paid_out_of_band"], older["amount_paid"]) == (True, True, 0)
    assert older["payment_intent"] is None


@pytest.mark.parametrize("version", BEFORE_BASIL)
def test_a_line_had_its_whole_price_and_its_plan(version: str) -> None:
    details = {"subscription": "sub_1", "subscription_item": "si_1", "proration": False}
    (older,) = subject(invoice(line(subscription_item_details=details)), version)["lines"]["data"]
    assert older["price"] == PRICE
    assert older["plan"]["id"] == "price_1"
    assert older["plan"]["metadata"] == PRICE["metadata"]
    assert (older["type"], older["subscription_item"]) == ("subscription", "si_1")
    assert older["tax_amounts"][0] == {
        "amount": 300,
        "inclusive": True,
        "tax_rate": "txr_1",
        "taxability_reason": None,
        "taxable_amount": 1700,
    }
    assert older["amount_excluding_tax"] == 1700
    assert not {"parent", "pricing", "taxes"} & older.keys()


@pytest.mark.parametrize("version", BEFORE_BASIL)
def test_a_proration_was_an_invoice_item_of_the_subscription(version: str) -> None:
    details = {"invoice_item": "ii_1", "proration": True, "subscription": "sub_1"}
    for parent in ("invoice_item_details", "subscription_item_details"):
        (older,) = subject(invoice(line(**{parent: details})), version)["lines"]["data"]
        assert (older["type"], older["invoice_item"]) == ("invoiceitem", "ii_1")
        assert (older["proration"], older["subscription"]) == (True, "sub_1")


@pytest.mark.parametrize("kind", ["payment_intent", "charge"])
def test_a_payment_named_its_invoice_until_2025_03_31(kind: str) -> None:
    values = {"payment_intent": "pi_1"} if kind == "charge" else {"id": "pi_1"}
    payment = event(kind, **values)
    assert [subject(payment, version)["invoice"] for version in BEFORE_BASIL] == ["in_1", "in_1"]
    assert "invoice" not in subject(payment, BASIL)
    assert "charges" not in subject(payment, "2022-11-15")


def test_a_subscription_had_the_period_of_its_items_until_2025_03_31() -> None:
    item = {"id": "si_1", "price": PRICE, "quantity": 2, "current_period_end": 9}
    today = event("subscription", items={"object": "list", "data": [item]}, discounts=[])
    today["data"]["previous_attributes"] = {"items": {"data": [{"current_period_end": 5}]}}
    for version in BEFORE_BASIL:
        older = in_version(today, version)["data"]
        assert older["object"]["current_period_end"] == 9
        assert older["previous_attributes"]["current_period_end"] == 5
        assert (older["object"]["plan"]["id"], older["object"]["quantity"]) == ("price_1", 2)
        assert "current_period_end" not in older["object"]["items"]["data"][0]
    assert "current_period_end" not in subject(today, BASIL)


def test_a_session_had_other_names_for_ui_modes_until_2026_03_25() -> None:
    session = event("checkout.session", ui_mode="hosted_page")
    assert [subject(session, v)["ui_mode"] for v in VERSIONS] == ["hosted"] * 3 + ["hosted_page"]
    assert "shipping_details" in subject(session, "2024-06-20")
    assert "shipping_details" not in subject(session, BASIL)


@pytest.mark.parametrize("version", VERSIONS[:3])
def test_a_discount_had_its_whole_coupon_until_2025_09_30(version: str) -> None:
    coupon = {"id": "10off", "object": "coupon", "percent_off": 10}
    discount = {"id": "di_1", "object": "discount", "source": {"type": "coupon", "coupon": "10off"}}
    customer = event("customer", discount=discount)
    older = in_version(customer, version, Related(coupons={"10off": coupon}))["data"]["object"]
    assert older["discount"] == {"id": "di_1", "object": "discount", "coupon": coupon}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["refund", "dispute", "payment_method", "setup_intent"])
def test_other_objects_are_the_same_in_every_version(kind: str, version: str) -> None:
    today = event(kind, payment_intent="pi_1")
    assert in_version(today, version) == today | {"api_version": version}
