"""What a Checkout Session comes to: taxes, discounts, shipping, prices of the catalogue."""

from decimal import Decimal
from typing import Any

import pytest
import stripe

from tests.integration.simulator.conftest import Http, Receiver

pytestmark = pytest.mark.asyncio(loop_scope="module")


def item(unit_amount: int = 2500, **more: Any) -> dict[str, Any]:
    data = {"currency": "usd", "unit_amount": unit_amount, "product_data": {"name": "credits"}}
    return {"price_data": data, "quantity": 1, **more}


def open_session(
    client: stripe.StripeClient, *items: dict[str, Any], **more: Any
) -> stripe.checkout.Session:
    params: Any = {
        "mode": "payment",
        "success_url": "https://shop.example/ok",
        "line_items": list(items) or [item()],
        **more,
    }
    return client.v1.checkout.sessions.create(params)


def amounts(session: stripe.checkout.Session) -> tuple[int | None, ...]:
    """Subtotal, discount, shipping, tax, total."""
    details = session.total_details
    assert details is not None
    return (
        session.amount_subtotal,
        details.amount_discount,
        details.amount_shipping,
        details.amount_tax,
        session.amount_total,
    )


def rate(client: stripe.StripeClient, percentage: float, *, inclusive: bool) -> str:
    return client.v1.tax_rates.create(
        {"display_name": "VAT", "percentage": percentage, "inclusive": inclusive}
    ).id


@pytest.mark.parametrize(
    ("inclusive", "tax", "total"), [(False, 500, 3000), (True, 417, 2500)], ids=str
)
async def test_a_tax_rate_is_added_or_is_in_the_price(
    client: stripe.StripeClient, http: Http, *, inclusive: bool, tax: int, total: int
) -> None:
    rates = [rate(client, 20, inclusive=inclusive)]
    opened = open_session(client, item(tax_rates=rates))
    assert amounts(opened) == (2500, 0, 0, tax, total)
    paid = await http.sim(f"checkout/{opened.id}/pay")
    intent = client.v1.payment_intents.retrieve(paid["payment_intent"])
    assert (intent.amount, intent.amount_received) == (total, total)
    (line,) = client.v1.checkout.sessions.line_items.list(opened.id).data
    assert (line.amount_subtotal, line.amount_tax, line.amount_total) == (2500, tax, total)


@pytest.mark.parametrize(
    ("behavior", "tax", "total"),
    [("exclusive", 475, 2975), ("inclusive", 399, 2500), ("unspecified", 475, 2975)],
)
async def test_automatic_tax_is_known_once_the_address_is(
    client: stripe.StripeClient, http: Http, behavior: str, tax: int, total: int
) -> None:
    given = item()
    given["price_data"]["tax_behavior"] = behavior
    opened = open_session(client, given, automatic_tax={"enabled": True})
    assert opened.automatic_tax.status == "requires_location_inputs"
    assert amounts(opened) == (2500, 0, 0, 0, 2500)
    await http.sim(f"checkout/{opened.id}/pay", {"tax_percent": 19})
    paid = client.v1.checkout.sessions.retrieve(opened.id, {"expand": ["payment_intent"]})
    assert paid.automatic_tax.status == "complete"
    assert amounts(paid) == (2500, 0, 0, tax, total)
    assert isinstance(paid.payment_intent, stripe.PaymentIntent)
    assert paid.payment_intent.amount_received == total


async def test_shipping_is_in_the_total_and_not_in_the_subtotal(
    client: stripe.StripeClient, http: Http
) -> None:
    options = [
        {
            "shipping_rate_data": {
                "display_name": name,
                "type": "fixed_amount",
                "fixed_amount": {"amount": amount, "currency": "usd"},
            }
        }
        for name, amount in (("slow", 500), ("fast", 900))
    ]
    opened = open_session(client, shipping_options=options)
    assert amounts(opened) == (2500, 0, 500, 0, 3000)
    fast = opened.shipping_options[1].shipping_rate
    await http.sim(f"checkout/{opened.id}/pay", {"shipping_rate": fast})
    paid = client.v1.checkout.sessions.retrieve(opened.id)
    assert amounts(paid) == (2500, 0, 900, 0, 3400)
    assert paid.shipping_cost is not None
    assert paid.shipping_cost.shipping_rate == fast


async def test_automatic_tax_is_on_shipping_too(client: stripe.StripeClient, http: Http) -> None:
    shipping = client.v1.shipping_rates.create(
        {"display_name": "slow", "fixed_amount": {"amount": 500, "currency": "usd"}}
    )
    opened = open_session(
        client, automatic_tax={"enabled": True}, shipping_options=[{"shipping_rate": shipping.id}]
    )
    await http.sim(f"checkout/{opened.id}/pay")
    paid = client.v1.checkout.sessions.retrieve(opened.id)
    assert amounts(paid) == (2500, 0, 500, 600, 3600)
    assert paid.shipping_cost is not None
    assert (paid.shipping_cost.amount_tax, paid.shipping_cost.amount_total) == (100, 600)


async def test_a_coupon_comes_off_before_tax(client: stripe.StripeClient, http: Http) -> None:
    coupon = client.v1.coupons.create({"percent_off": 10, "duration": "once"}).id
    rates = [rate(client, 20, inclusive=False)]
    opened = open_session(client, item(tax_rates=rates), discounts=[{"coupon": coupon}])
    assert amounts(opened) == (2500, 250, 0, 450, 2700)
    assert opened.discounts is not None
    assert opened.discounts[0].coupon == coupon
    await http.sim(f"checkout/{opened.id}/pay")
    assert client.v1.coupons.retrieve(coupon).times_redeemed == 1


async def test_an_amount_off_is_spread_over_the_lines(client: stripe.StripeClient) -> None:
    coupon = client.v1.coupons.create({"amount_off": 100, "currency": "usd"}).id
    opened = open_session(
        client, item(1000), item(1000), item(1000), discounts=[{"coupon": coupon}]
    )
    lines = client.v1.checkout.sessions.line_items.list(opened.id).data
    assert [line.amount_discount for line in lines] == [33, 34, 33]
    assert amounts(opened) == (3000, 100, 0, 0, 2900)


async def test_a_buyer_enters_a_promotion_code(client: stripe.StripeClient, http: Http) -> None:
    coupon = client.v1.coupons.create({"percent_off": 20}).id
    client.v1.promotion_codes.create(
        {"promotion": {"type": "coupon", "coupon": coupon}, "code": "SAVE20"}
    )
    opened = open_session(client, allow_promotion_codes=True)
    assert amounts(opened) == (2500, 0, 0, 0, 2500)
    status, body, _ = await http.send(
        "POST", f"/_sim/checkout/{opened.id}/pay", key=None, json={"promotion_code": "NOPE"}
    )
    assert (status, body["error"]["param"]) == (400, "promotion_code")
    await http.sim(f"checkout/{opened.id}/pay", {"promotion_code": "SAVE20"})
    paid = client.v1.checkout.sessions.retrieve(opened.id, {"expand": ["payment_intent"]})
    assert amounts(paid) == (2500, 500, 0, 0, 2000)
    assert isinstance(paid.payment_intent, stripe.PaymentIntent)
    assert paid.payment_intent.amount_received == 2000
    closed = open_session(client)
    status, _, _ = await http.send(
        "POST", f"/_sim/checkout/{closed.id}/pay", key=None, json={"promotion_code": "SAVE20"}
    )
    assert status == 400


async def test_a_session_that_costs_nothing_has_no_payment_intent(
    client: stripe.StripeClient, http: Http, receiver: Receiver
) -> None:
    coupon = client.v1.coupons.create({"percent_off": 100}).id
    opened = open_session(client, discounts=[{"coupon": coupon}])
    assert amounts(opened) == (2500, 2500, 0, 0, 0)
    paid = await http.sim(f"checkout/{opened.id}/pay")
    assert (paid["status"], paid["payment_status"]) == ("complete", "no_payment_required")
    assert paid["payment_intent"] is None
    await http.sim("deliveries/flush")
    assert receiver.types(opened.id) == ["checkout.session.completed"]


async def test_sessions_are_found_by_their_payment_intent(
    client: stripe.StripeClient, http: Http
) -> None:
    opened = open_session(client)
    paid = await http.sim(f"checkout/{opened.id}/pay")
    found = client.v1.checkout.sessions.list({"payment_intent": paid["payment_intent"]})
    assert [session.id for session in found.data] == [opened.id]


async def test_a_price_of_the_catalogue_is_sold(client: stripe.StripeClient) -> None:
    product = client.v1.products.create({"name": "250 credits"})
    price = client.v1.prices.create(
        {
            "currency": "usd",
            "unit_amount": 2000,
            "product": product.id,
            "metadata": {"prepaid_credits": "250"},
        }
    )
    opened = open_session(client, {"price": price.id, "quantity": 2})
    assert opened.amount_total == 4000
    (line,) = client.v1.checkout.sessions.line_items.list(opened.id).data
    assert line.price is not None
    assert line.price.metadata["prepaid_credits"] == "250"
    changed = client.v1.prices.update(price.id, {"active": False, "metadata": {"a": "b"}})
    assert changed.metadata.to_dict() == {"prepaid_credits": "250", "a": "b"}
    assert [found.id for found in client.v1.prices.list({"product": product.id}).data] == [price.id]
    with pytest.raises(stripe.InvalidRequestError, match="inactive"):
        open_session(client, {"price": price.id, "quantity": 1})
    with pytest.raises(stripe.InvalidRequestError, match="No such price"):
        client.v1.prices.retrieve("price_none")


async def test_new_objects_have_no_field_that_the_library_does_not_know(
    client: stripe.StripeClient,
) -> None:
    price = client.v1.prices.create(
        {"currency": "usd", "unit_amount_decimal": Decimal("0.5"), "product_data": {"name": "a"}}
    )
    coupon = client.v1.coupons.create({"percent_off": 12.5})
    code = client.v1.promotion_codes.create({"promotion": {"type": "coupon", "coupon": coupon.id}})
    tax_rate = client.v1.tax_rates.retrieve(rate(client, 7.5, inclusive=True))
    shipping = client.v1.shipping_rates.create(
        {"display_name": "slow", "fixed_amount": {"amount": 500, "currency": "usd"}}
    )
    for found, kind in (
        (price, stripe.Price),
        (coupon, stripe.Coupon),
        (code, stripe.PromotionCode),
        (tax_rate, stripe.TaxRate),
        (shipping, stripe.ShippingRate),
    ):
        assert set(found.to_dict()) <= set(kind.__annotations__)
    assert (price.unit_amount, str(price.unit_amount_decimal)) == (None, "0.5")


async def test_the_page_takes_a_promotion_code_and_shows_the_tax(
    client: stripe.StripeClient, http: Http
) -> None:
    coupon = client.v1.coupons.create({"percent_off": 50}).id
    client.v1.promotion_codes.create(
        {"promotion": {"type": "coupon", "coupon": coupon}, "code": "HALF"}
    )
    rates = [rate(client, 20, inclusive=False)]
    opened = open_session(client, item(tax_rates=rates), allow_promotion_codes=True)
    _, page, _ = await http.send("GET", f"/c/pay/{opened.id}", key=None)
    assert 'name="promotion_code"' in page
    assert "Tax" in page
    assert "$30.00" in page
    form = {"card": "4242424242424242", "promotion_code": "HALF"}
    status, _, _ = await http.send("POST", f"/c/pay/{opened.id}", key=None, data=form)
    assert status == 303
    assert amounts(client.v1.checkout.sessions.retrieve(opened.id)) == (2500, 1250, 0, 250, 1500)


async def test_the_page_says_which_tax_its_prices_include(
    client: stripe.StripeClient, http: Http
) -> None:
    rates = [rate(client, 25, inclusive=True)]
    opened = open_session(client, item(tax_rates=rates))
    _, page, _ = await http.send("GET", f"/c/pay/{opened.id}", key=None)
    assert "Pay $25.00" in page
    assert "Tax, included" in page
    assert "$5.00" in page
