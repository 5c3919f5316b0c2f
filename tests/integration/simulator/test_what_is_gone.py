"""Deleted customers and detached payment methods refuse what is asked of them as Stripe's do.

https://docs.stripe.com/api/customers/delete, https://docs.stripe.com/api/payment_methods/detach
"""

from collections.abc import Callable
from typing import Any

import pytest
import stripe

from tests.integration.simulator.conftest import Http, error_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
ITEM: Any = {
    "price_data": {"currency": "usd", "product_data": {"name": "x"}, "unit_amount": 500},
    "quantity": 1,
}
CHECKOUT: Any = {"success_url": "https://a.example", "mode": "payment", "line_items": [ITEM]}
PAYMENT: Any = {"amount": 500, "currency": "usd"}
USES: dict[str, Callable[[stripe.StripeClient, str], Any]] = {
    "payment": lambda c, who: c.v1.payment_intents.create(PAYMENT | {"customer": who}),
    "checkout": lambda c, who: c.v1.checkout.sessions.create(CHECKOUT | {"customer": who}),
    "card set-up": lambda c, who: c.v1.setup_intents.create({"customer": who}),
    "portal": lambda c, who: c.v1.billing_portal.sessions.create({"customer": who}),
    "attachment": lambda c, who: c.v1.payment_methods.attach("pm_card_visa", {"customer": who}),
    "list of cards": lambda c, who: c.v1.payment_methods.list({"customer": who}),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("customer", ["deleted", "unknown"])
async def test_a_parameter_that_names_a_customer_who_is_gone_is_a_400(
    client: stripe.StripeClient, use: str, customer: str
) -> None:
    gone = "cus_unknown"
    if customer == "deleted":
        gone = client.v1.customers.delete(client.v1.customers.create({}).id).id
    with pytest.raises(stripe.InvalidRequestError, match=f"No such customer: '{gone}'") as refused:
        USES[use](client, gone)
    error = error_of(refused)
    assert refused.value.http_status == 400
    assert (error["code"], error["param"]) == ("resource_missing", "customer")


async def test_a_deleted_customer_leaves_three_fields(
    client: stripe.StripeClient, http: Http
) -> None:
    customer = client.v1.customers.create({})
    client.v1.customers.delete(customer.id)
    status, body, _ = await http.send("GET", f"/v1/customers/{customer.id}")
    assert (status, body) == (200, {"id": customer.id, "object": "customer", "deleted": True})
    status, body, _ = await http.send("POST", f"/v1/customers/{customer.id}", data={"name": "x"})
    assert (status, body["error"]["code"]) == (404, "resource_missing")


async def test_a_payment_that_waits_outlives_its_customer_and_cannot_be_confirmed(
    client: stripe.StripeClient,
) -> None:
    customer = client.v1.customers.create({})
    method = client.v1.payment_methods.attach("pm_card_visa", {"customer": customer.id})
    intent = client.v1.payment_intents.create(
        PAYMENT | {"customer": customer.id, "payment_method": method.id}
    )
    client.v1.customers.delete(customer.id)
    assert client.v1.payment_intents.retrieve(intent.id).customer == customer.id
    with pytest.raises(stripe.InvalidRequestError, match="may not be used again") as refused:
        client.v1.payment_intents.confirm(intent.id, {"off_session": True})
    assert (refused.value.http_status, error_of(refused)["param"]) == (400, "payment_method")


async def test_a_detached_payment_method_is_shown_and_never_used_again(
    client: stripe.StripeClient,
) -> None:
    customer = client.v1.customers.create({})
    method = client.v1.payment_methods.attach("pm_card_visa", {"customer": customer.id})
    client.v1.payment_methods.detach(method.id)
    assert client.v1.payment_methods.retrieve(method.id).customer is None
    for use in (
        lambda: client.v1.payment_methods.attach(method.id, {"customer": customer.id}),
        lambda: client.v1.payment_intents.create(
            PAYMENT | {"customer": customer.id, "payment_method": method.id}
        ),
    ):
        with pytest.raises(stripe.InvalidRequestError, match="may not be used again") as refused:
            use()
        assert refused.value.http_status == 400


@pytest.mark.parametrize("method", ["pm_unknown", "of another customer"])
async def test_a_payment_method_that_is_not_there_is_a_400_with_its_parameter(
    client: stripe.StripeClient, method: str
) -> None:
    customer, other = client.v1.customers.create({}), client.v1.customers.create({})
    if method != "pm_unknown":
        method = client.v1.payment_methods.attach("pm_card_visa", {"customer": other.id}).id
    for param, use in (
        (
            "payment_method",
            lambda: client.v1.payment_intents.create(
                PAYMENT | {"customer": customer.id, "payment_method": method}
            ),
        ),
        (
            "invoice_settings[default_payment_method]",
            lambda: client.v1.customers.update(
                customer.id, {"invoice_settings": {"default_payment_method": method}}
            ),
        ),
    ):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            use()
        assert (refused.value.http_status, error_of(refused)["param"]) == (400, param)
