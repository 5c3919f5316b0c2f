from typing import Any

import pytest
import stripe

from tests.integration.simulator.conftest import Http, Receiver, error_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

NO_REDIRECTS: Any = {"enabled": True, "allow_redirects": "never"}


def saved_card(client: stripe.StripeClient, test_id: str) -> tuple[str, str]:
    customer = client.v1.customers.create({"email": "payer@example.com"}).id
    return customer, client.v1.payment_methods.attach(test_id, {"customer": customer}).id


def charge(
    client: stripe.StripeClient, customer: str, method: str, **more: Any
) -> stripe.PaymentIntent:
    params: Any = {
        "amount": 2000,
        "currency": "usd",
        "customer": customer,
        "payment_method": method,
        "off_session": True,
        "confirm": True,
        **more,
    }
    return client.v1.payment_intents.create(params)


async def test_an_off_session_charge_succeeds_with_stripes_events(
    client: stripe.StripeClient, http: Http, receiver: Receiver
) -> None:
    customer, method = saved_card(client, "pm_card_visa")
    intent = client.v1.payment_intents.create(
        {
            "amount": 2000,
            "currency": "usd",
            "customer": customer,
            "payment_method": method,
            "metadata": {"attempt_id": "ra_1"},
            "description": "Top-up",
        }
    )
    assert intent.status == "requires_confirmation"
    paid = client.v1.payment_intents.confirm(
        intent.id, {"off_session": True, "expand": ["latest_charge.balance_transaction"]}
    )
    assert (paid.status, paid.amount_received) == ("succeeded", 2000)
    assert isinstance(paid.latest_charge, stripe.Charge)
    assert isinstance(paid.latest_charge.balance_transaction, stripe.BalanceTransaction)
    assert paid.latest_charge.balance_transaction.net == 2000 - 58 - 30
    assert paid.latest_charge.metadata.to_dict() == {"attempt_id": "ra_1"}
    status, page, headers = await http.send(
        "GET",
        paid.latest_charge.receipt_url.partition("/receipts/")[1] + paid.latest_charge.id
        if paid.latest_charge.receipt_url
        else "",
        key=None,
    )
    assert status == 200
    assert "$20.00" in page
    assert "not Stripe" in headers["Server"]

    listed = client.v1.payment_intents.list(
        {"customer": customer, "created": {"gte": paid.created}}
    )
    assert [i.id for i in listed.data] == [paid.id]
    events = client.v1.events.list({"limit": 10, "types": ["payment_intent.*", "charge.*"]})
    mine = [e.type for e in events.data if paid.id in str(e)]
    assert mine[::-1] == [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
        "charge.updated",
    ]
    await http.sim("deliveries/flush")
    assert sorted(receiver.types(paid.id)) == sorted(mine)
    for event in receiver.events:
        if event["type"] == "charge.succeeded" and paid.id in str(event):
            assert event["data"]["object"]["balance_transaction"] is None

    with pytest.raises(stripe.InvalidRequestError, match="already succeeded") as refused:
        client.v1.payment_intents.confirm(intent.id)
    assert refused.value.code == "payment_intent_unexpected_state"
    assert error_of(refused)["payment_intent"]["status"] == "succeeded"
    with pytest.raises(stripe.InvalidRequestError, match="status of succeeded"):
        client.v1.payment_intents.cancel(intent.id)


async def test_a_saved_card_that_declines_leaves_a_failed_charge(
    client: stripe.StripeClient, http: Http, receiver: Receiver
) -> None:
    customer, method = saved_card(client, "pm_card_chargeCustomerFail")
    with pytest.raises(stripe.CardError) as refused:
        charge(client, customer, method)
    error = error_of(refused)
    assert (refused.value.http_status, error["code"], error["decline_code"]) == (
        402,
        "card_declined",
        "generic_decline",
    )
    assert error["advice_code"] == "try_again_later"
    intent = client.v1.payment_intents.retrieve(error["payment_intent"]["id"])
    assert intent.status == "requires_payment_method"
    assert intent.last_payment_error is not None
    assert intent.last_payment_error.charge == intent.latest_charge
    failed = client.v1.charges.retrieve(str(intent.latest_charge))
    assert (failed.status, failed.paid, failed.failure_code) == ("failed", False, "card_declined")
    assert failed.outcome is not None
    assert failed.outcome.type == "issuer_declined"
    await http.sim("deliveries/flush")
    assert sorted(receiver.types(intent.id)) == [
        "charge.failed",
        "payment_intent.created",
        "payment_intent.payment_failed",
    ]

    good = client.v1.payment_methods.attach("pm_card_visa", {"customer": customer}).id
    again = client.v1.payment_intents.confirm(
        intent.id, {"payment_method": good, "off_session": True}
    )
    assert (again.status, again.last_payment_error) == ("succeeded", None)


async def test_off_session_a_card_that_needs_authentication_is_refused(
    client: stripe.StripeClient,
) -> None:
    customer, method = saved_card(client, "pm_card_authenticationRequired")
    with pytest.raises(stripe.CardError) as refused:
        charge(client, customer, method)
    error = error_of(refused)
    assert (error["code"], error["decline_code"]) == (
        "authentication_required",
        "authentication_required",
    )
    assert error["payment_intent"]["last_payment_error"]["code"] == "authentication_required"
    assert error["payment_intent"]["last_payment_error"]["payment_method"]["id"] == method
    assert error["payment_intent"]["status"] == "requires_payment_method"


async def test_on_session_the_cardholder_is_asked_and_the_card_is_then_set_up(
    client: stripe.StripeClient, http: Http, receiver: Receiver
) -> None:
    customer, method = saved_card(client, "pm_card_authenticationRequiredOnSetup")
    with pytest.raises(stripe.CardError):
        charge(client, customer, method)
    intent = client.v1.payment_intents.create(
        {
            "amount": 2000,
            "currency": "usd",
            "customer": customer,
            "payment_method": method,
            "setup_future_usage": "off_session",
            "confirm": True,
            "return_url": "https://shop.example/back?a=b",
        }
    )
    assert intent.status == "requires_action"
    assert intent.next_action is not None
    assert intent.next_action.redirect_to_url is not None
    page = str(intent.next_action.redirect_to_url.url).partition("/authenticate")[2]
    status, text, _ = await http.send("GET", f"/authenticate{page}", key=None)
    assert status == 200
    assert "Complete authentication" in text
    status, _, headers = await http.send(
        "POST", f"/authenticate{page}", key=None, data={"answer": "pass"}
    )
    assert status == 303
    assert headers["Location"].startswith("https://shop.example/back?a=b&payment_intent=pi_")
    assert headers["Location"].endswith("redirect_status=succeeded")
    assert client.v1.payment_intents.retrieve(intent.id).status == "succeeded"
    assert charge(client, customer, method).status == "succeeded"
    await http.sim("deliveries/flush")
    assert "payment_intent.requires_action" in receiver.types(intent.id)


async def test_a_failed_authentication_fails_the_payment(
    client: stripe.StripeClient, http: Http
) -> None:
    customer, method = saved_card(client, "pm_card_authenticationRequired")
    intent = charge(
        client, customer, method, off_session=False, automatic_payment_methods=NO_REDIRECTS
    )
    assert intent.next_action is not None
    assert intent.next_action.type == "use_stripe_sdk"
    status, body, _ = await http.send(
        "POST", f"/_sim/payment_intents/{intent.id}/authenticate", json={"passed": False}
    )
    assert (status, body["error"]["code"]) == (400, "payment_intent_authentication_failure")
    after = client.v1.payment_intents.retrieve(intent.id)
    assert after.status == "requires_payment_method"
    assert after.latest_charge is None
    canceled = client.v1.payment_intents.cancel(intent.id, {"cancellation_reason": "abandoned"})
    assert (canceled.status, canceled.cancellation_reason) == ("canceled", "abandoned")
    with pytest.raises(stripe.InvalidRequestError, match="status of canceled"):
        client.v1.payment_intents.confirm(intent.id, {"payment_method": "pm_card_visa"})


async def test_error_on_requires_action_refuses_instead_of_asking(
    client: stripe.StripeClient,
) -> None:
    customer, method = saved_card(client, "pm_card_authenticationRequired")
    with pytest.raises(stripe.CardError) as refused:
        charge(
            client,
            customer,
            method,
            off_session=False,
            error_on_requires_action=True,
            automatic_payment_methods=NO_REDIRECTS,
        )
    assert error_of(refused)["decline_code"] == "authentication_not_handled"


@pytest.mark.parametrize(
    ("amount", "currency", "code"),
    [
        (49, "usd", "amount_too_small"),
        (29, "gbp", "amount_too_small"),
        (49, "jpy", "amount_too_small"),
        (100_000_000, "usd", "amount_too_large"),
        (0, "usd", "parameter_invalid_integer"),
        (-5, "usd", "parameter_invalid_integer"),
    ],
)
async def test_amounts_outside_of_the_limits_are_refused(
    client: stripe.StripeClient, amount: int, currency: str, code: str
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.payment_intents.create({"amount": amount, "currency": currency})
    assert (refused.value.http_status, refused.value.code, refused.value.param) == (
        400,
        code,
        "amount",
    )


async def test_impossible_requests_are_refused_like_stripe_does(
    client: stripe.StripeClient,
) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="Invalid currency: xyz"):
        client.v1.payment_intents.create({"amount": 500, "currency": "xyz"})
    with pytest.raises(stripe.InvalidRequestError, match="return_url"):
        client.v1.payment_intents.create(
            {"amount": 500, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True}
        )
    with pytest.raises(stripe.InvalidRequestError, match="missing a payment method"):
        client.v1.payment_intents.confirm(
            client.v1.payment_intents.create({"amount": 500, "currency": "usd"}).id,
            {"off_session": True},
        )
    customer, method = saved_card(client, "pm_card_visa")
    with pytest.raises(stripe.InvalidRequestError, match=f"belongs to the Customer {customer}"):
        client.v1.payment_intents.create(
            {"amount": 500, "currency": "usd", "payment_method": method}
        )
    other, _ = saved_card(client, "pm_card_visa")
    with pytest.raises(stripe.InvalidRequestError, match="must be attached to the customer"):
        charge(client, other, method)
    with pytest.raises(stripe.InvalidRequestError, match="confirm=true"):
        client.v1.payment_intents.create({"amount": 500, "currency": "usd", "off_session": True})


async def test_a_manual_capture_takes_the_money_later(client: stripe.StripeClient) -> None:
    customer, method = saved_card(client, "pm_card_visa")
    held = charge(client, customer, method, capture_method="manual")
    assert (held.status, held.amount_capturable, held.amount_received) == (
        "requires_capture",
        2000,
        0,
    )
    taken = client.v1.payment_intents.capture(held.id, {"amount_to_capture": 1500})
    assert (taken.status, taken.amount_received) == ("succeeded", 1500)
    (rest,) = client.v1.refunds.list({"payment_intent": held.id}).data
    assert (rest.amount, rest.status, rest.balance_transaction) == (500, "succeeded", None)
    assert client.v1.refunds.create({"payment_intent": held.id}).amount == 1500


async def test_an_unconfirmed_intent_can_be_changed(client: stripe.StripeClient) -> None:
    intent = client.v1.payment_intents.create({"amount": 500, "currency": "usd"})
    changed = client.v1.payment_intents.update(
        intent.id, {"amount": 700, "metadata": {"a": "b"}, "payment_method": "pm_card_visa"}
    )
    assert (changed.amount, changed.status) == (700, "requires_confirmation")


async def test_refunds_are_partial_then_full_then_refused(
    client: stripe.StripeClient, http: Http, receiver: Receiver
) -> None:
    customer, method = saved_card(client, "pm_card_visa")
    intent = charge(client, customer, method)
    part = client.v1.refunds.create(
        {"payment_intent": intent.id, "amount": 500, "reason": "requested_by_customer"}
    )
    assert (part.status, part.amount, part.charge) == ("succeeded", 500, intent.latest_charge)
    with pytest.raises(stripe.InvalidRequestError, match=r"greater than unrefunded amount"):
        client.v1.refunds.create({"charge": str(intent.latest_charge), "amount": 1501})
    rest = client.v1.refunds.create({"charge": str(intent.latest_charge)})
    assert rest.amount == 1500
    refunded = client.v1.charges.retrieve(str(intent.latest_charge), {"expand": ["refunds"]})
    assert (refunded.refunded, refunded.amount_refunded) == (True, 2000)
    assert refunded.refunds is not None
    assert [r.id for r in refunded.refunds.data] == [rest.id, part.id]
    assert [r.id for r in client.v1.refunds.list({"payment_intent": intent.id}).data] == [
        rest.id,
        part.id,
    ]
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create({"charge": str(intent.latest_charge)})
    assert refused.value.code == "charge_already_refunded"
    await http.sim("deliveries/flush")
    types = receiver.types(intent.id)
    assert types.count("refund.created") == types.count("charge.refunded") == 2


async def test_a_refund_may_fail_later(client: stripe.StripeClient) -> None:
    customer, method = saved_card(client, "pm_card_refundFail")
    refund = client.v1.refunds.create({"payment_intent": charge(client, customer, method).id})
    assert (refund.status, refund.failure_reason) == ("failed", "expired_or_canceled_card")


async def test_a_disputed_charge_can_be_won_back(
    client: stripe.StripeClient, http: Http, receiver: Receiver
) -> None:
    customer, method = saved_card(client, "pm_card_createDispute")
    intent = charge(client, customer, method)
    (dispute,) = client.v1.disputes.list({"payment_intent": intent.id}).data
    assert (dispute.amount, dispute.status, dispute.reason) == (
        2000,
        "needs_response",
        "fraudulent",
    )
    assert client.v1.charges.retrieve(str(intent.latest_charge)).disputed is True
    with pytest.raises(stripe.InvalidRequestError, match="charged back"):
        client.v1.refunds.create({"payment_intent": intent.id})
    won = client.v1.disputes.update(
        dispute.id, {"evidence": {"uncategorized_text": "winning_evidence"}}
    )
    assert won.status == "won"
    assert sum(t.amount for t in won.balance_transactions) == 0
    await http.sim("deliveries/flush")
    assert {
        "charge.dispute.created",
        "charge.dispute.funds_withdrawn",
        "charge.dispute.updated",
        "charge.dispute.closed",
        "charge.dispute.funds_reinstated",
    } <= set(receiver.types(dispute.id))


async def test_any_charge_can_be_disputed_on_demand(
    client: stripe.StripeClient, http: Http
) -> None:
    customer, method = saved_card(client, "pm_card_visa")
    intent = charge(client, customer, method)
    dispute = await http.sim(f"charges/{intent.latest_charge}/dispute", {"reason": "duplicate"})
    lost = client.v1.disputes.close(dispute["id"])
    assert (lost.status, lost.reason) == ("lost", "duplicate")


async def test_objects_have_no_field_that_the_library_does_not_know(
    client: stripe.StripeClient,
) -> None:
    customer, method = saved_card(client, "pm_card_visa")
    intent = charge(client, customer, method)
    taken = str(intent.latest_charge)
    refund = client.v1.refunds.create({"charge": taken, "amount": 100})
    answers: list[stripe.StripeObject] = [
        client.v1.customers.retrieve(customer),
        client.v1.payment_methods.retrieve(method),
        intent,
        client.v1.charges.retrieve(taken),
        client.v1.balance_transactions.retrieve(str(refund.balance_transaction)),
        refund,
        client.v1.events.list().data[0],
    ]
    for answer in answers:
        known = set(type(answer).__annotations__)
        assert set(answer.to_dict()) <= known, type(answer)
