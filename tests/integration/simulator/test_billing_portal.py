"""The page on which customers keep their cards."""

import pytest
import stripe

from tests.integration.simulator.conftest import Http, Receiver

pytestmark = pytest.mark.asyncio(loop_scope="module")

BACK = "https://shop.example/billing?a=1&b=2"


def opened(client: stripe.StripeClient) -> tuple[str, str]:
    """Return a new customer and the path of their portal."""
    customer = client.v1.customers.create({"email": "payer@example.com"}).id
    session = client.v1.billing_portal.sessions.create({"customer": customer, "return_url": BACK})
    assert session.id.startswith("bps_")
    assert set(session.to_dict()) <= set(type(session).__annotations__)
    return customer, "/".join(["", *session.url.split("/")[3:]])


def kept(client: stripe.StripeClient, customer: str) -> list[str]:
    return [m.id for m in client.v1.payment_methods.list({"customer": customer}).data]


def default(client: stripe.StripeClient, customer: str) -> str | None:
    settings = client.v1.customers.retrieve(customer).invoice_settings
    assert settings is not None
    method = settings.default_payment_method
    return None if method is None else str(method)


async def post(http: Http, path: str, **form: str) -> tuple[int, str]:
    status, text, headers = await http.send("POST", path, key=None, data=form)
    return status, headers.get("Location", text)


async def test_cards_are_added_preferred_and_removed(
    client: stripe.StripeClient, http: Http, receiver: Receiver
) -> None:
    customer, page = opened(client)
    _, text, _ = await http.send("GET", page, key=None)
    assert "No card is saved" in text
    assert 'href="https://shop.example/billing?a=1&amp;b=2"' in text
    for number in ("4242 4242 4242 4242", "5555555555554444"):
        assert await post(http, f"{page}/add", card=number) == (303, page)
    mastercard, visa = kept(client, customer)
    assert await post(http, f"{page}/default", payment_method=visa) == (303, page)
    assert default(client, customer) == visa
    _, text, _ = await http.send("GET", page, key=None)
    assert "visa **** 4242, 12/2034, default" in text
    assert "mastercard **** 4444, 12/2034<" in text
    assert text.count("Make default") == 1
    assert await post(http, f"{page}/remove", payment_method=visa) == (303, page)
    assert kept(client, customer) == [mastercard]
    assert default(client, customer) is None
    await http.sim("deliveries/flush")
    assert receiver.types(visa).count("customer.updated") == 1
    assert {"payment_method.attached", "payment_method.detached"} <= set(receiver.types(visa))


async def test_a_bank_may_ask_before_a_card_is_added(
    client: stripe.StripeClient, http: Http
) -> None:
    customer, page = opened(client)
    status, challenge = await post(http, f"{page}/add", card="4000002500003155")
    assert status == 303
    assert challenge.startswith("/authenticate/seti_")
    assert kept(client, customer) == []
    status, location = await post(http, challenge, answer="pass")
    assert status == 303
    assert f"{page}?setup_intent=seti_" in location
    (method,) = kept(client, customer)
    charged = client.v1.payment_intents.create(
        {
            "amount": 2000,
            "currency": "usd",
            "customer": customer,
            "payment_method": method,
            "off_session": True,
            "confirm": True,
        }
    )
    assert charged.status == "succeeded"


async def test_what_cannot_be_is_said_on_the_page(client: stripe.StripeClient, http: Http) -> None:
    customer, page = opened(client)
    status, text = await post(http, f"{page}/add", card="4000000000009995")
    assert status == 402
    assert "insufficient funds" in text
    status, text = await post(http, f"{page}/add", card="1234")
    assert status == 402
    assert "incorrect" in text
    stranger = client.v1.payment_methods.attach(
        "pm_card_visa", {"customer": client.v1.customers.create({}).id}
    ).id
    for act in ("default", "remove"):
        status, _ = await post(http, f"{page}/{act}", payment_method=stranger)
        assert status in {400, 404}
    assert kept(client, customer) == []
    for path in ("", "/add"):
        method = "POST" if path else "GET"
        status, _, _ = await http.send(method, f"/p/session/bps_none{path}", key=None)
        assert status == 404
    with pytest.raises(stripe.InvalidRequestError, match="No such customer"):
        client.v1.billing_portal.sessions.create({"customer": "cus_none"})
    with pytest.raises(stripe.InvalidRequestError, match="valid URL"):
        client.v1.billing_portal.sessions.create({"customer": customer, "return_url": "x"})
