"""Cards kept by a first purchase and charged later without their holder."""

from typing import Any

import pytest
import stripe

from tests.integration.simulator.conftest import Http, error_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

BACK = "https://shop.example/recharge?id=ra_1"


async def bought(client: stripe.StripeClient, http: Http, number: str) -> tuple[str, str]:
    """Buy with Checkout as a known customer and return the customer and the card it kept."""
    customer = client.v1.customers.create({"email": "payer@example.com"}).id
    session = client.v1.checkout.sessions.create(
        {
            "mode": "payment",
            "customer": customer,
            "success_url": "https://shop.example/ok",
            "line_items": [
                {
                    "price_data": {
                        "currency": "usd",
                        "unit_amount": 1000,
                        "product_data": {"name": "Credits"},
                    },
                    "quantity": 1,
                }
            ],
            "payment_intent_data": {"setup_future_usage": "off_session"},
        }
    )
    await http.sim(f"checkout/{session.id}/pay", {"card": number, "authenticate": True})
    (method,) = client.v1.payment_methods.list({"customer": customer, "type": "card"}).data
    return customer, method.id


def attached(client: stripe.StripeClient, test_id: str) -> tuple[str, str]:
    customer = client.v1.customers.create({}).id
    return customer, client.v1.payment_methods.attach(test_id, {"customer": customer}).id


def recharge(client: stripe.StripeClient, customer: str, method: str) -> stripe.PaymentIntent:
    """Create first and confirm later, as a caller does that must know the id before it charges."""
    intent = client.v1.payment_intents.create(
        {"amount": 2000, "currency": "usd", "customer": customer, "payment_method": method}
    )
    assert intent.status == "requires_confirmation"
    return client.v1.payment_intents.confirm(intent.id, {"off_session": True})


@pytest.mark.parametrize(
    "number",
    ["4242424242424242", "4000002500003155", "4000003800000446", "4000000000000259"],
)
async def test_a_card_kept_by_checkout_is_charged_off_session(
    client: stripe.StripeClient, http: Http, number: str
) -> None:
    customer, method = await bought(client, http, number)
    assert recharge(client, customer, method).status == "succeeded"


async def test_some_banks_ask_every_time_even_for_a_kept_card(
    client: stripe.StripeClient, http: Http
) -> None:
    customer, method = await bought(client, http, "4000002760003184")
    with pytest.raises(stripe.CardError) as refused:
        recharge(client, customer, method)
    assert refused.value.code == "authentication_required"


@pytest.mark.parametrize(
    "test_id", ["pm_card_authenticationRequiredOnSetup", "pm_card_authenticationRequired"]
)
@pytest.mark.parametrize(("answer", "outcome"), [("pass", "succeeded"), ("fail", "failed")])
async def test_an_off_session_refusal_is_finished_on_session_by_the_cardholder(
    client: stripe.StripeClient, http: Http, test_id: str, answer: str, outcome: str
) -> None:
    customer, method = attached(client, test_id)
    with pytest.raises(stripe.CardError) as refused:
        recharge(client, customer, method)
    intent_id = error_of(refused)["payment_intent"]["id"]
    intent = client.v1.payment_intents.retrieve(intent_id)
    assert (intent.status, intent.payment_method) == ("requires_payment_method", None)
    assert intent.last_payment_error is not None
    assert intent.last_payment_error.code == "authentication_required"
    assert intent.last_payment_error.payment_method is not None
    assert intent.last_payment_error.payment_method.id == method

    asked = client.v1.payment_intents.confirm(
        intent_id, {"payment_method": method, "return_url": BACK}
    )
    assert asked.status == "requires_action"
    assert asked.next_action is not None
    assert asked.next_action.redirect_to_url is not None
    page = (
        "/authenticate" + str(asked.next_action.redirect_to_url.url).partition("/authenticate")[2]
    )
    _, text, _ = await http.send("GET", page, key=None)
    assert "Complete authentication" in text
    status, _, headers = await http.send("POST", page, key=None, data={"answer": answer})
    assert status == 303
    assert headers["Location"].startswith(f"{BACK}&payment_intent={intent_id}&")
    assert headers["Location"].endswith(f"redirect_status={outcome}")
    after = client.v1.payment_intents.retrieve(intent_id).status
    assert after == ("succeeded" if outcome == "succeeded" else "requires_payment_method")


@pytest.mark.parametrize(
    ("number", "decline_code", "advice", "network_advice"),
    [
        ("4000000000000002", "generic_decline", "try_again_later", "02"),
        ("4000000000009995", "insufficient_funds", "try_again_later", "02"),
        ("4000000000009987", "lost_card", "do_not_try_again", "03"),
        ("4000000000009979", "stolen_card", "do_not_try_again", "03"),
        ("4000000000000127", "incorrect_cvc", "confirm_card_data", "01"),
        ("4100000000000019", "fraudulent", "do_not_try_again", None),
    ],
)
async def test_a_good_card_may_turn_bad_and_says_what_to_do_next(
    client: stripe.StripeClient,
    http: Http,
    number: str,
    decline_code: str,
    advice: str,
    network_advice: str | None,
) -> None:
    customer, method = await bought(client, http, "4242424242424242")
    await http.sim(f"payment_methods/{method}/card", {"card": number})
    with pytest.raises(stripe.CardError) as refused:
        recharge(client, customer, method)
    error = error_of(refused)
    kept: Any = client.v1.payment_intents.retrieve(error["payment_intent"]["id"])
    for found in (error, kept.last_payment_error.to_dict()):
        assert found["decline_code"] == decline_code
        assert found["advice_code"] == advice
        assert found.get("network_advice_code") == network_advice
    outcome: Any = client.v1.charges.retrieve(kept.latest_charge).outcome
    assert outcome.network_advice_code == network_advice


@pytest.mark.parametrize(
    "test_id",
    [
        "pm_card_chargeDeclined",
        "pm_card_chargeDeclinedInsufficientFunds",
        "pm_card_chargeDeclinedLostCard",
        "pm_card_chargeDeclinedStolenCard",
    ],
)
async def test_a_bad_card_cannot_be_saved(client: stripe.StripeClient, test_id: str) -> None:
    with pytest.raises(stripe.CardError):
        attached(client, test_id)


async def test_one_card_saves_and_then_declines(client: stripe.StripeClient) -> None:
    customer, method = attached(client, "pm_card_chargeCustomerFail")
    with pytest.raises(stripe.CardError, match="declined"):
        recharge(client, customer, method)
    client.v1.payment_methods.detach(method)
    assert client.v1.payment_methods.list({"customer": customer}).data == []
    with pytest.raises(stripe.InvalidRequestError, match="may not be used again"):
        recharge(client, customer, method)


async def test_an_unknown_card_is_refused_by_the_control_api(
    client: stripe.StripeClient, http: Http
) -> None:
    _, method = attached(client, "pm_card_visa")
    status, _, _ = await http.send(
        "POST", f"/_sim/payment_methods/{method}/card", key=None, json={"card": "1"}
    )
    assert status == 400
