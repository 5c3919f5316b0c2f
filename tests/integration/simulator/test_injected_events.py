"""Events that tests make up: the API has their objects afterwards, as Stripe has."""

import pytest
import stripe

from tests.integration.simulator.conftest import Http

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_object_of_an_injected_event_can_be_retrieved(
    client: stripe.StripeClient, http: Http
) -> None:
    await http.sim(
        "events",
        {
            "type": "payment_intent.succeeded",
            "object": {"id": "pi_elsewhere", "amount_received": 2000, "customer": "cus_a"},
        },
    )
    intent = client.v1.payment_intents.retrieve("pi_elsewhere")
    assert (intent.amount_received, intent.customer) == (2000, "cus_a")


async def test_lists_by_payment_intent_find_injected_objects(
    client: stripe.StripeClient, http: Http
) -> None:
    about = {"payment_intent": "pi_listed"}
    await http.sim(
        "events",
        {"type": "checkout.session.completed", "object": {"id": "cs_test_listed", **about}},
    )
    await http.sim("events", {"type": "refund.created", "object": {"id": "re_listed", **about}})
    await http.sim("events", {"type": "charge.succeeded", "object": {"id": "ch_listed", **about}})
    sessions = client.v1.checkout.sessions.list({"payment_intent": "pi_listed"})
    assert [session.id for session in sessions.data] == ["cs_test_listed"]
    assert client.v1.checkout.sessions.line_items.list("cs_test_listed").data == []
    refunds = client.v1.refunds.list({"payment_intent": "pi_listed"})
    assert [refund.id for refund in refunds.data] == ["re_listed"]
    charges = client.v1.charges.list({"payment_intent": "pi_listed"})
    assert [charge.id for charge in charges.data] == ["ch_listed"]


async def test_an_injected_event_does_not_change_an_object_that_exists(
    client: stripe.StripeClient, http: Http
) -> None:
    customer = client.v1.customers.create({"email": "a@b.co"})
    await http.sim(
        "events",
        {"type": "customer.updated", "object": {"id": customer.id, "email": "stale@b.co"}},
    )
    assert client.v1.customers.retrieve(customer.id).email == "a@b.co"


async def test_an_injected_payment_method_can_be_charged(
    client: stripe.StripeClient, http: Http
) -> None:
    customer = client.v1.customers.create({})
    await http.sim(
        "events",
        {
            "type": "payment_method.attached",
            "object": {"id": "pm_elsewhere", "customer": customer.id},
        },
    )
    intent = client.v1.payment_intents.create(
        {
            "amount": 1000,
            "currency": "usd",
            "customer": customer.id,
            "payment_method": "pm_elsewhere",
            "confirm": True,
            "off_session": True,
        }
    )
    assert intent.status == "succeeded"


async def test_another_accounts_object_stays_unknown(
    client: stripe.StripeClient, http: Http
) -> None:
    await http.sim(
        "events",
        {
            "type": "customer.created",
            "account": "acct_connected",
            "object": {"id": "cus_connected"},
        },
    )
    with pytest.raises(stripe.InvalidRequestError, match="No such customer"):
        client.v1.customers.retrieve("cus_connected")
