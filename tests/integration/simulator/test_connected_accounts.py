"""Connected accounts: `Stripe-Account` names whose objects, keys and events a request is about.

https://docs.stripe.com/connect/authentication
"""

from typing import Any

import pytest
import stripe

from tests.integration.simulator.conftest import Http, Receiver, error_of

ACCOUNT = "acct_1Connected"
OTHER = "acct_2Connected"
pytestmark = pytest.mark.asyncio(loop_scope="module")


def within(account: str = ACCOUNT) -> Any:
    return {"stripe_account": account}


async def test_an_object_of_an_account_is_seen_with_its_header_alone(
    client: stripe.StripeClient,
) -> None:
    customer = client.v1.customers.create({"email": "a@example.com"}, within())
    assert client.v1.customers.retrieve(customer.id, options=within()).email == "a@example.com"
    without: Any = {}
    for options in (without, within(OTHER)):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            client.v1.customers.retrieve(customer.id, options=options)
        assert refused.value.http_status == 404
        assert error_of(refused)["code"] == "resource_missing"
    mine: Any = {"email": "a@example.com"}
    assert [c.id for c in client.v1.customers.list(mine, within()).data] == [customer.id]
    assert client.v1.customers.list(mine).data == []
    with pytest.raises(stripe.InvalidRequestError, match="No such"):
        client.v1.customers.list({"starting_after": customer.id})


async def test_an_account_cannot_use_what_is_in_another(client: stripe.StripeClient) -> None:
    ours = client.v1.customers.create({})
    for params in (
        {"amount": 500, "currency": "usd", "customer": ours.id},
        {"amount": 500, "currency": "usd", "payment_method": saved_card(client, ours.id, {})},
    ):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            client.v1.payment_intents.create(params, within())  # type: ignore[arg-type]
        assert error_of(refused)["code"] == "resource_missing"


def saved_card(client: stripe.StripeClient, customer: str, options: Any) -> str:
    method = client.v1.payment_methods.attach("pm_card_visa", {"customer": customer}, options)
    return method.id


async def test_events_of_an_account_say_whose_they_are(
    client: stripe.StripeClient, http: Http, receiver: Receiver
) -> None:
    customer = client.v1.customers.create({}, within())
    method = saved_card(client, customer.id, within())
    paid = client.v1.payment_intents.create(
        {
            "amount": 1200,
            "confirm": True,
            "currency": "usd",
            "customer": customer.id,
            "off_session": True,
            "payment_method": method,
        },
        within(),
    )
    assert paid.status == "succeeded"
    dispute = await http.sim(f"charges/{paid.latest_charge}/dispute")
    assert client.v1.disputes.retrieve(dispute["id"], options=within()).charge == paid.latest_charge
    await http.sim("deliveries/flush")
    told = [e for e in receiver.events if e["data"]["object"].get("customer") == customer.id]
    assert {"payment_intent.succeeded", "charge.succeeded"} <= {e["type"] for e in told}
    assert {event["account"] for event in told} == {ACCOUNT}
    (disputed,) = [e for e in receiver.events if e["data"]["object"]["id"] == dispute["id"]][:1]
    assert disputed["account"] == ACCOUNT
    listed = client.v1.events.list({"limit": 100}, within()).data
    assert {event["id"] for event in told} <= {event.id for event in listed}
    assert not any("account" in e for e in client.v1.events.list({"limit": 100}).data)


async def test_a_checkout_of_an_account_is_paid_and_expires_in_it(
    client: stripe.StripeClient, http: Http, receiver: Receiver
) -> None:
    item: Any = {
        "price_data": {"currency": "usd", "product_data": {"name": "x"}, "unit_amount": 500},
        "quantity": 1,
    }
    params: Any = {"mode": "payment", "success_url": "https://a.example", "line_items": [item]}
    sessions = [client.v1.checkout.sessions.create(params, within()) for _ in range(2)]
    paid = await http.sim(f"checkout/{sessions[0].id}/pay")
    assert paid["status"] == "complete"
    intent = client.v1.payment_intents.retrieve(paid["payment_intent"], options=within())
    assert intent.amount_received == 500
    await http.sim("clock/advance", {"seconds": 25 * 3600})
    await http.sim("deliveries/flush")
    (expired,) = [e for e in receiver.events if e["data"]["object"]["id"] == sessions[1].id]
    assert (expired["type"], expired["account"]) == ("checkout.session.expired", ACCOUNT)


async def test_an_endpoint_hears_of_its_own_account_or_of_connected_ones(
    client: stripe.StripeClient, http: Http
) -> None:
    hooks = {"own": Receiver(), "connected": Receiver()}
    for name, hook in hooks.items():
        await hook.start()
        endpoint = client.v1.webhook_endpoints.create(
            {
                "connect": name == "connected",
                "enabled_events": ["customer.created"],
                "url": hook.url,
            }
        )
        hook.secret = endpoint.secret or ""
    ours = client.v1.customers.create({})
    theirs = client.v1.customers.create({}, within())
    await http.sim("deliveries/flush")
    heard = {name: [e["data"]["object"]["id"] for e in hook.events] for name, hook in hooks.items()}
    for hook in hooks.values():
        await hook.stop()
    assert heard == {"own": [ours.id], "connected": [theirs.id]}


async def test_each_account_has_idempotency_keys_of_its_own(client: stripe.StripeClient) -> None:
    key: Any = {"idempotency_key": "shared"}
    ours = client.v1.customers.create({}, key)
    theirs = client.v1.customers.create({}, key | within())
    assert ours.id != theirs.id
    assert client.v1.customers.create({}, key | within()).id == theirs.id


async def test_the_platforms_own_account_may_be_named(client: stripe.StripeClient) -> None:
    customer = client.v1.customers.create({}, within("acct_1Simulator"))
    assert client.v1.customers.retrieve(customer.id).id == customer.id


@pytest.mark.parametrize("account", ["", "cus_1", "acct_", "acct_1 x"])
async def test_what_is_no_account_is_refused(http: Http, account: str) -> None:
    headers = {"Stripe-Account": account}
    status, body, _ = await http.send("GET", "/v1/customers", headers=headers)
    assert (status, body["error"]["code"]) == (403, "account_invalid")


async def test_requests_are_noted_with_their_account(
    client: stripe.StripeClient, http: Http
) -> None:
    client.v1.customers.list({}, within())
    client.v1.customers.list({})
    assert [r["stripe_account"] for r in (await http.data("requests"))[-2:]] == [ACCOUNT, None]
