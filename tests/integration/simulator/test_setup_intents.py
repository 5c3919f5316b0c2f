"""Saving a card without a payment."""

import pytest
import stripe

from tests.integration.simulator.conftest import Http, Receiver, error_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

BACK = "https://shop.example/cards"


def setup(client: stripe.StripeClient, test_id: str) -> stripe.SetupIntent:
    customer = client.v1.customers.create({}).id
    return client.v1.setup_intents.create(
        {
            "customer": customer,
            "payment_method": test_id,
            "usage": "off_session",
            "confirm": True,
            "return_url": BACK,
        }
    )


def charge_of(client: stripe.StripeClient, intent: stripe.SetupIntent) -> stripe.PaymentIntent:
    return client.v1.payment_intents.create(
        {
            "amount": 2000,
            "currency": "usd",
            "customer": str(intent.customer),
            "payment_method": str(intent.payment_method),
            "off_session": True,
            "confirm": True,
        }
    )


async def test_a_card_is_set_up_at_once_and_kept_by_its_customer(
    client: stripe.StripeClient, http: Http, receiver: Receiver
) -> None:
    intent = setup(client, "pm_card_visa")
    assert (intent.status, intent.usage) == ("succeeded", "off_session")
    (kept,) = client.v1.payment_methods.list({"customer": str(intent.customer)}).data
    assert kept.id == intent.payment_method
    assert charge_of(client, intent).status == "succeeded"
    await http.sim("deliveries/flush")
    assert set(receiver.types(kept.id)) > {
        "payment_method.attached",
        "setup_intent.succeeded",
    }
    assert "setup_intent.created" in receiver.types(intent.id)


@pytest.mark.parametrize(("answer", "outcome"), [("pass", "succeeded"), ("fail", "failed")])
async def test_the_cardholder_is_asked_and_sent_back(
    client: stripe.StripeClient, http: Http, receiver: Receiver, answer: str, outcome: str
) -> None:
    intent = setup(client, "pm_card_authenticationRequiredOnSetup")
    assert intent.status == "requires_action"
    assert intent.next_action is not None
    assert intent.next_action.redirect_to_url is not None
    page = "/".join(["", *str(intent.next_action.redirect_to_url.url).split("/")[3:]])
    _, text, _ = await http.send("GET", page, key=None)
    assert "Save your card" in text
    status, _, headers = await http.send("POST", page, key=None, data={"answer": answer})
    assert status == 303
    assert headers["Location"].startswith(f"{BACK}?setup_intent={intent.id}&setup_intent_client_")
    assert headers["Location"].endswith(f"redirect_status={outcome}")
    after = client.v1.setup_intents.retrieve(intent.id)
    await http.sim("deliveries/flush")
    if outcome == "succeeded":
        assert after.status == "succeeded"
        assert charge_of(client, after).status == "succeeded"
    else:
        assert (after.status, after.payment_method) == ("requires_payment_method", None)
        assert after.last_setup_error is not None
        assert after.last_setup_error.code == "setup_intent_authentication_failure"
        assert "setup_intent.setup_failed" in receiver.types(intent.id)


async def test_a_refused_card_is_not_kept(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.CardError) as refused:
        setup(client, "pm_card_chargeDeclinedInsufficientFunds")
    error = error_of(refused)
    assert error["decline_code"] == "insufficient_funds"
    kept = client.v1.setup_intents.retrieve(error["setup_intent"]["id"])
    assert kept.last_setup_error is not None
    assert kept.last_setup_error.decline_code == "insufficient_funds"
    assert client.v1.payment_methods.list({"customer": str(kept.customer)}).data == []


async def test_it_may_be_confirmed_later_or_canceled(
    client: stripe.StripeClient, http: Http
) -> None:
    customer = client.v1.customers.create({}).id
    later = client.v1.setup_intents.create({"customer": customer})
    assert later.status == "requires_payment_method"
    with pytest.raises(stripe.InvalidRequestError, match="missing a payment method"):
        client.v1.setup_intents.confirm(later.id)
    asked = client.v1.setup_intents.confirm(
        later.id, {"payment_method": "pm_card_authenticationRequired"}
    )
    assert asked.next_action is not None
    assert asked.next_action.type == "use_stripe_sdk"
    done = await http.sim(f"setup_intents/{later.id}/authenticate")
    assert done["status"] == "succeeded"
    with pytest.raises(stripe.InvalidRequestError, match="status of succeeded"):
        client.v1.setup_intents.cancel(later.id)
    other = client.v1.setup_intents.create({"customer": customer})
    canceled = client.v1.setup_intents.cancel(other.id, {"cancellation_reason": "abandoned"})
    assert (canceled.status, canceled.cancellation_reason) == ("canceled", "abandoned")
    listed = client.v1.setup_intents.list({"customer": customer}).data
    assert [s.id for s in listed] == [other.id, later.id]
    assert set(done) <= set(stripe.SetupIntent.__annotations__)
