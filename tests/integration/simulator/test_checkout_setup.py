"""Checkout Sessions that save a card and take no money."""

from typing import Any

import pytest
import stripe

from tests.integration.simulator.conftest import Http, Receiver

pytestmark = pytest.mark.asyncio(loop_scope="module")


def opened(client: stripe.StripeClient, **more: Any) -> stripe.checkout.Session:
    params: Any = {
        "mode": "setup",
        "currency": "usd",
        "success_url": "https://shop.example/ok?session={CHECKOUT_SESSION_ID}",
        "setup_intent_data": {"metadata": {"organization_id": "org_1"}},
        **more,
    }
    return client.v1.checkout.sessions.create(params)


@pytest.mark.parametrize("number", ["4242424242424242", "4000002500003155"])
async def test_a_card_is_saved_on_the_page(
    client: stripe.StripeClient, http: Http, receiver: Receiver, number: str
) -> None:
    customer = client.v1.customers.create({"email": "payer@example.com"}).id
    session = opened(client, customer=customer)
    assert (session.payment_status, session.amount_total) == ("no_payment_required", None)
    page = "/".join(["", *str(session.url).split("/")[3:]])
    _, text, _ = await http.send("GET", page, key=None)
    assert "Save card" in text
    status, text, _ = await http.send("POST", page, key=None, data={"card": "4000000000000002"})
    assert status == 402
    assert "declined" in text
    status, _, headers = await http.send("POST", page, key=None, data={"card": number})
    assert status == 303
    if "/authenticate/" in headers["Location"]:
        _, _, headers = await http.send(
            "POST", headers["Location"], key=None, data={"answer": "pass"}
        )
    assert headers["Location"] == f"https://shop.example/ok?session={session.id}"
    done = client.v1.checkout.sessions.retrieve(session.id, {"expand": ["setup_intent"]})
    assert (done.status, done.customer, done.payment_intent) == ("complete", customer, None)
    assert isinstance(done.setup_intent, stripe.SetupIntent)
    assert done.setup_intent.metadata is not None
    assert done.setup_intent.metadata.to_dict() == {"organization_id": "org_1"}
    (method,) = client.v1.payment_methods.list({"customer": customer}).data
    assert done.setup_intent.payment_method == method.id
    await http.sim("deliveries/flush")
    assert "checkout.session.completed" in receiver.types(session.id)
    charged = client.v1.payment_intents.create(
        {
            "amount": 2000,
            "currency": "usd",
            "customer": customer,
            "payment_method": method.id,
            "off_session": True,
            "confirm": True,
        }
    )
    assert charged.status == "succeeded"


async def test_it_may_make_its_customer_and_has_nothing_to_sell(
    client: stripe.StripeClient, http: Http
) -> None:
    session = opened(client, customer_creation="always")
    given = {"card": "4000002760003184", "email": "new@example.com", "authenticate": True}
    done = await http.sim(f"checkout/{session.id}/pay", given)
    assert client.v1.customers.retrieve(done["customer"]).email == "new@example.com"
    item = {"price": "price_1", "quantity": 1}
    with pytest.raises(stripe.InvalidRequestError, match="line_items"):
        opened(client, line_items=[item])
