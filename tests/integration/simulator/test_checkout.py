from typing import Any

import pytest
import stripe

from tests.integration.simulator.conftest import Http, Receiver

pytestmark = pytest.mark.asyncio(loop_scope="module")


def session(client: stripe.StripeClient, **more: Any) -> stripe.checkout.Session:
    params: Any = {
        "mode": "payment",
        "success_url": "https://shop.example/ok?session={CHECKOUT_SESSION_ID}",
        "cancel_url": "https://shop.example/no",
        "line_items": [
            {
                "price_data": {
                    "currency": "usd",
                    "unit_amount": 1250,
                    "product_data": {"name": "25 <credits>"},
                },
                "quantity": 2,
            }
        ],
        **more,
    }
    return client.v1.checkout.sessions.create(params)


def event_types(client: stripe.StripeClient, *object_ids: str) -> list[str]:
    """Return the types of the events that name one of these objects, oldest first."""
    events = client.v1.events.list({"limit": 100}).to_dict()["data"]
    return [e["type"] for e in events if any(i in str(e) for i in object_ids)][::-1]


async def test_a_session_is_paid_on_its_page(
    client: stripe.StripeClient, http: Http, receiver: Receiver
) -> None:
    opened = session(
        client,
        client_reference_id="org_1",
        customer_creation="always",
        metadata={"organization_id": "org_1"},
        payment_intent_data={
            "metadata": {"purchase_id": "pur_1"},
            "setup_future_usage": "off_session",
        },
    )
    assert (opened.status, opened.payment_status, opened.amount_total) == ("open", "unpaid", 2500)
    assert opened.payment_intent is None
    path = str(opened.url).partition("/c/pay")[2]
    status, page, _ = await http.send("GET", f"/c/pay{path}", key=None)
    assert status == 200
    assert "$25.00" in page
    assert "25 &lt;credits&gt;" in page
    assert "This is not Stripe" in page
    assert "https://shop.example/no" in page

    declined, page, _ = await http.send(
        "POST", f"/c/pay{path}", key=None, data={"card": "4000 0000 0000 9995", "email": "a@b.co"}
    )
    assert declined == 402
    assert "insufficient funds" in page
    assert client.v1.checkout.sessions.retrieve(opened.id).status == "open"

    status, _, headers = await http.send(
        "POST", f"/c/pay{path}", key=None, data={"card": "4242424242424242", "email": "a@b.co"}
    )
    assert status == 303
    assert headers["Location"] == f"https://shop.example/ok?session={opened.id}"
    paid = client.v1.checkout.sessions.retrieve(
        opened.id, {"expand": ["payment_intent.latest_charge", "line_items", "customer"]}
    )
    assert (paid.status, paid.payment_status, paid.url) == ("complete", "paid", None)
    assert paid.customer_details is not None
    assert paid.customer_details.email == "a@b.co"
    assert isinstance(paid.payment_intent, stripe.PaymentIntent)
    assert paid.payment_intent.metadata.to_dict() == {"purchase_id": "pur_1"}
    assert isinstance(paid.customer, stripe.Customer)
    assert paid.line_items is not None
    assert paid.line_items.data[0].quantity == 2
    methods = client.v1.customers.payment_methods.list(paid.customer.id)
    assert [m.id for m in methods.data] == [paid.payment_intent.payment_method]

    await http.sim("deliveries/flush")
    about = (opened.id, paid.payment_intent.id, paid.customer.id)
    assert event_types(client, *about) == [
        "customer.created",
        "payment_intent.created",
        "charge.failed",
        "payment_intent.payment_failed",
        "payment_method.attached",
        "charge.succeeded",
        "payment_intent.succeeded",
        "checkout.session.completed",
        "charge.updated",
    ]
    assert "checkout.session.completed" in receiver.types(opened.id)
    status, page, _ = await http.send("GET", f"/c/pay{path}", key=None)
    assert "is complete" in page
    again, _, _ = await http.send(
        "POST", f"/c/pay{path}", key=None, data={"card": "4242424242424242"}
    )
    assert again == 400


async def test_a_3ds_card_leads_over_the_banks_page(
    client: stripe.StripeClient, http: Http
) -> None:
    opened = session(client)
    path = f"/c/pay/{opened.id}"
    card = {"card": "4000002760003184"}
    status, _, headers = await http.send("POST", path, key=None, data=card)
    assert status == 303
    challenge = headers["Location"]
    assert challenge.startswith("/authenticate/pi_")
    _, _, headers = await http.send("POST", challenge, key=None, data={"answer": "fail"})
    assert headers["Location"] == f"{path}?declined=1"
    _, page, _ = await http.send("GET", headers["Location"], key=None)
    assert "failed authentication" in page
    await http.send("POST", path, key=None, data=card)
    _, _, headers = await http.send("POST", challenge, key=None, data={"answer": "pass"})
    assert headers["Location"].startswith("https://shop.example/ok")
    assert client.v1.checkout.sessions.retrieve(opened.id).payment_status == "paid"


async def test_the_control_api_pays_like_the_page(client: stripe.StripeClient, http: Http) -> None:
    opened = session(client, invoice_creation={"enabled": True})
    status, body, _ = await http.send(
        "POST", f"/_sim/checkout/{opened.id}/pay", key=None, json={"card": "4000000000000002"}
    )
    assert (status, body["error"]["decline_code"]) == (402, "generic_decline")
    paid = await http.sim(f"checkout/{opened.id}/pay", {"email": "x@y.zz"})
    assert paid["payment_status"] == "paid"
    invoice = client.v1.invoices.retrieve(paid["invoice"])
    assert (invoice.status, invoice.amount_paid) == ("paid", 2500)
    assert invoice.hosted_invoice_url is not None
    page = "/invoices/" + invoice.id
    assert "$25.00" in (await http.send("GET", page, key=None))[1]
    second = session(client)
    done = await http.sim(
        f"checkout/{second.id}/pay", {"card": "4000000000003220", "authenticate": True}
    )
    assert done["status"] == "complete"


@pytest.mark.parametrize(
    ("account", "payment_status", "ending"),
    [("000123456789", "paid", "succeeded"), ("000111111116", "unpaid", "failed")],
)
async def test_a_bank_account_pays_later(
    client: stripe.StripeClient,
    http: Http,
    receiver: Receiver,
    account: str,
    payment_status: str,
    ending: str,
) -> None:
    opened = session(client)
    done = await http.sim(f"checkout/{opened.id}/pay", {"card": account})
    assert (done["status"], done["payment_status"]) == ("complete", "unpaid")
    intent = done["payment_intent"]
    assert client.v1.payment_intents.retrieve(intent).status == "processing"
    await http.sim(f"payment_intents/{intent}/settle")
    assert client.v1.checkout.sessions.retrieve(opened.id).payment_status == payment_status
    after = client.v1.payment_intents.retrieve(intent, {"expand": ["latest_charge"]})
    assert isinstance(after.latest_charge, stripe.Charge)
    assert after.latest_charge.status == ending
    await http.sim("deliveries/flush")
    assert f"checkout.session.async_payment_{ending}" in receiver.types(opened.id)
    assert {"payment_intent.processing", "charge.pending", f"charge.{ending}"} <= set(
        receiver.types(intent)
    )
    status, _, _ = await http.send("POST", f"/_sim/payment_intents/{intent}/settle", json={})
    assert status == 400


async def test_sessions_expire_on_request_and_by_the_clock(
    client: stripe.StripeClient, http: Http, receiver: Receiver
) -> None:
    one, two = session(client), session(client)
    assert client.v1.checkout.sessions.expire(one.id).status == "expired"
    with pytest.raises(stripe.InvalidRequestError, match="status of expired"):
        client.v1.checkout.sessions.expire(one.id)
    await http.sim("clock/advance", {"seconds": 24 * 3600 + 1})
    await http.sim("deliveries/flush")
    assert client.v1.checkout.sessions.retrieve(two.id).status == "expired"
    assert receiver.types(two.id) == ["checkout.session.expired"]
    status, body, _ = await http.send("POST", f"/_sim/checkout/{two.id}/pay", key=None)
    assert (status, "expired" in body["error"]["message"]) == (400, True)
    listed = client.v1.checkout.sessions.list({"status": "expired", "limit": 2})
    assert [s.id for s in listed.data] == [two.id, one.id]


@pytest.mark.parametrize(
    ("change", "param", "wording"),
    [
        ({"line_items": []}, "line_items", "required in payment mode"),
        ({"success_url": "nowhere"}, "success_url", "Not a valid URL"),
        ({"customer": "cus_none"}, "customer", "No such customer"),
        ({"mode": "sometimes"}, "mode", "must be one of payment, setup, or subscription"),
        ({"expires_at": 1}, "expires_at", "at least 30 minutes"),
        ({"payment_intent_data": {"foo": "1"}}, "payment_intent_data[foo]", "unknown parameter"),
    ],
)
async def test_wrong_sessions_are_refused(
    client: stripe.StripeClient, change: dict[str, Any], param: str, wording: str
) -> None:
    with pytest.raises(stripe.InvalidRequestError, match=wording) as refused:
        session(client, **change)
    assert refused.value.param == param


async def test_a_total_below_the_minimum_is_refused(client: stripe.StripeClient) -> None:
    data: Any = {"currency": "usd", "unit_amount": 10, "product_data": {"name": "crumb"}}
    with pytest.raises(stripe.InvalidRequestError) as refused:
        session(client, line_items=[{"price_data": data, "quantity": 4}])
    assert refused.value.code == "amount_too_small"


async def test_a_session_has_no_field_that_the_library_does_not_know(
    client: stripe.StripeClient,
) -> None:
    opened = session(client)
    assert set(opened.to_dict()) <= set(stripe.checkout.Session.__annotations__)
    items = client.v1.checkout.sessions.line_items.list(opened.id)
    assert set(items.data[0].to_dict()) <= set(stripe.LineItem.__annotations__)
