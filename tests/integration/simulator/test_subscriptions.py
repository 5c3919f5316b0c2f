"""Subscriptions: first invoice, cycles, trials, refused payments, the end."""

from typing import Any

import pytest
import stripe

from tests.fixtures.simulated_subscriptions import item_of, latest, subscribe
from tests.integration.simulator.conftest import Http, Receiver
from tests.integration.simulator.test_invoices import customer

pytestmark = pytest.mark.asyncio(loop_scope="module")

DECLINED = "4000000000000002"


async def test_a_subscription_begins_with_a_paid_invoice(
    client: stripe.StripeClient, http: Http, receiver: Receiver, small: str
) -> None:
    owner = customer(client)
    made = subscribe(client, owner, small, metadata={"organization_id": "acme"})
    assert made.status == "active"
    assert item_of(made).current_period_end > item_of(made).current_period_start
    invoice = latest(client, made.id)
    assert (invoice.status, invoice.billing_reason) == ("paid", "subscription_create")
    assert (invoice.amount_paid, invoice.total) == (1000, 1000)
    assert invoice.parent is not None
    details = invoice.parent.subscription_details
    assert details is not None
    assert details.subscription == made.id
    assert details.metadata is not None
    assert details.metadata["organization_id"] == "acme"
    (line,) = invoice.lines.data
    assert line.pricing is not None
    assert line.pricing.price_details is not None
    assert line.pricing.price_details.price == small
    assert line.period.end == item_of(made).current_period_end
    assert line.parent is not None
    assert line.parent.subscription_item_details is not None
    assert line.parent.subscription_item_details.proration is False
    (payment,) = client.v1.invoice_payments.list({"invoice": invoice.id}).data
    assert isinstance(payment.payment.payment_intent, str)
    intent = client.v1.payment_intents.retrieve(payment.payment.payment_intent)
    assert (intent.customer, intent.metadata.to_dict()) == (owner, {})
    await http.sim("deliveries/flush")
    about = [
        event["type"]
        for event in receiver.events
        if (
            event["type"].startswith(("invoice.", "invoice_payment", "customer.sub"))
            and owner in str(event["data"]["object"])
        )
        or event["data"]["object"]["id"] == payment.id
    ]
    assert about == [
        "customer.subscription.created",
        "invoice.created",
        "invoice.finalized",
        "invoice_payment.paid",
        "invoice.paid",
        "invoice.payment_succeeded",
        "customer.subscription.updated",
    ]


async def test_a_cycle_bills_the_next_period(
    client: stripe.StripeClient, http: Http, small: str
) -> None:
    made = subscribe(client, customer(client), small)
    invoice = await http.sim(f"subscriptions/{made.id}/cycle")
    assert (invoice["billing_reason"], invoice["amount_paid"]) == ("subscription_cycle", 1000)
    after = client.v1.subscriptions.retrieve(made.id)
    assert item_of(after).current_period_start == item_of(made).current_period_end
    assert invoice["period_end"] == item_of(made).current_period_end
    (line,) = invoice["lines"]["data"]
    assert line["period"]["end"] == item_of(after).current_period_end
    assert after.latest_invoice == invoice["id"]


async def test_a_declined_renewal_is_past_due_until_it_is_paid(
    client: stripe.StripeClient, http: Http, small: str
) -> None:
    owner = customer(client)
    made = subscribe(client, owner, small)
    method = client.v1.customers.payment_methods.list(owner).data[0].id
    await http.sim(f"payment_methods/{method}/card", {"card": DECLINED})
    invoice = await http.sim(f"subscriptions/{made.id}/cycle")
    assert (invoice["status"], invoice["amount_paid"]) == ("open", 0)
    assert client.v1.subscriptions.retrieve(made.id).status == "past_due"
    await http.sim(f"payment_methods/{method}/card", {"card": "4242424242424242"})
    assert client.v1.invoices.pay(invoice["id"]).status == "paid"
    assert client.v1.subscriptions.retrieve(made.id).status == "active"


async def test_a_trial_costs_nothing_until_its_first_cycle(
    client: stripe.StripeClient, http: Http, small: str
) -> None:
    made = subscribe(client, customer(client), small, trial_period_days=14)
    assert made.status == "trialing"
    first = latest(client, made.id)
    assert (first.status, first.amount_due, first.lines.data[0].amount) == ("paid", 0, 0)
    invoice = await http.sim(f"subscriptions/{made.id}/cycle")
    assert invoice["amount_paid"] == 1000
    assert client.v1.subscriptions.retrieve(made.id).status == "active"


async def test_a_declined_first_payment_leaves_a_subscription_incomplete(
    client: stripe.StripeClient, http: Http, small: str
) -> None:
    owner = customer(client)
    method = client.v1.customers.payment_methods.list(owner).data[0].id
    await http.sim(f"payment_methods/{method}/card", {"card": DECLINED})
    with pytest.raises(stripe.CardError):
        subscribe(client, owner, small, payment_behavior="error_if_incomplete")
    assert client.v1.subscriptions.list({"customer": owner}).data == []
    made = subscribe(client, owner, small)
    assert (made.status, latest(client, made.id).status) == ("incomplete", "open")
    with pytest.raises(stripe.InvalidRequestError, match="no attached payment source"):
        subscribe(client, customer(client, card=None), small)


async def test_an_incomplete_subscription_is_active_once_its_payment_intent_succeeds(
    client: stripe.StripeClient, http: Http, small: str
) -> None:
    made = subscribe(client, customer(client), small, payment_behavior="default_incomplete")
    assert made.status == "incomplete"
    invoice = latest(client, made.id)
    (payment,) = client.v1.invoice_payments.list({"invoice": invoice.id}).data
    intent = payment.payment.payment_intent
    assert isinstance(intent, str)
    params: Any = {
        "payment_method": "pm_card_authenticationRequired",
        "return_url": "https://shop.example/back",
    }
    assert client.v1.payment_intents.confirm(intent, params).status == "requires_action"
    await http.sim(f"payment_intents/{intent}/authenticate")
    assert client.v1.subscriptions.retrieve(made.id).status == "active"
    assert client.v1.invoices.retrieve(invoice.id).status == "paid"


async def test_a_canceled_subscription_gives_the_rest_of_its_period_back(
    client: stripe.StripeClient, http: Http, receiver: Receiver, small: str
) -> None:
    owner = customer(client)
    made = subscribe(client, owner, small)
    ended = client.v1.subscriptions.cancel(made.id, {"invoice_now": True, "prorate": True})
    assert ended.status == "canceled"
    back = latest(client, made.id)
    assert (back.status, back.total) == ("paid", -1000)
    assert client.v1.customers.retrieve(owner).balance == -1000
    await http.sim("deliveries/flush")
    assert "customer.subscription.deleted" in receiver.types(made.id)
    assert client.v1.subscriptions.list({"customer": owner}).data == []
    listed = client.v1.subscriptions.list({"customer": owner, "status": "canceled"}).data
    assert [found.id for found in listed] == [made.id]


async def test_a_subscription_may_end_with_its_period(
    client: stripe.StripeClient, http: Http, small: str
) -> None:
    made = subscribe(client, customer(client), small)
    planned = client.v1.subscriptions.update(made.id, {"cancel_at_period_end": True})
    assert (planned.status, planned.cancel_at) == ("active", item_of(made).current_period_end)
    ended = await http.sim(f"subscriptions/{made.id}/cycle")
    assert (ended["object"], ended["status"]) == ("subscription", "canceled")


@pytest.mark.parametrize("card", ["4242424242424242", "4000002760003184"])
async def test_checkout_starts_a_subscription(
    client: stripe.StripeClient, http: Http, receiver: Receiver, small: str, card: str
) -> None:
    session = client.v1.checkout.sessions.create(
        {
            "mode": "subscription",
            "success_url": "https://shop.example/ok",
            "line_items": [{"price": small, "quantity": 2}],
            "subscription_data": {"metadata": {"organization_id": "acme"}},
        }
    )
    assert session.amount_total == 2000
    status, _, _ = await http.send(
        "POST", f"/_sim/checkout/{session.id}/pay", key=None, json={"card": DECLINED}
    )
    assert status == 402
    paid = await http.sim(
        f"checkout/{session.id}/pay", {"card": card, "email": "x@y.zz", "authenticate": True}
    )
    assert (paid["status"], paid["payment_status"]) == ("complete", "paid")
    assert paid["payment_intent"] is None
    made = client.v1.subscriptions.retrieve(paid["subscription"])
    assert (made.status, made.metadata["organization_id"]) == ("active", "acme")
    invoice = client.v1.invoices.retrieve(paid["invoice"])
    assert (invoice.amount_paid, invoice.customer) == (2000, paid["customer"])
    await http.sim("deliveries/flush")
    assert receiver.types(session.id) == ["checkout.session.completed"]


async def test_checkout_with_a_trial_asks_for_no_payment_yet(
    client: stripe.StripeClient, http: Http, small: str
) -> None:
    session = client.v1.checkout.sessions.create(
        {
            "mode": "subscription",
            "success_url": "https://shop.example/ok",
            "line_items": [{"price": small, "quantity": 1}],
            "subscription_data": {"trial_period_days": 7},
        }
    )
    assert session.amount_total == 0
    paid = await http.sim(f"checkout/{session.id}/pay", {"email": "x@y.zz"})
    assert (paid["status"], paid["payment_status"]) == ("complete", "no_payment_required")
    assert client.v1.subscriptions.retrieve(paid["subscription"]).status == "trialing"
    invoice = await http.sim(f"subscriptions/{paid['subscription']}/cycle")
    assert invoice["amount_paid"] == 1000


async def test_checkout_gives_up_a_subscription_whose_challenge_was_failed(
    client: stripe.StripeClient, http: Http, small: str
) -> None:
    owner = customer(client, card=None)
    session = client.v1.checkout.sessions.create(
        {
            "mode": "subscription",
            "customer": owner,
            "success_url": "https://shop.example/ok",
            "line_items": [{"price": small, "quantity": 1}],
        }
    )
    failed = {"card": "4000002760003184", "authenticate": False}
    path = f"/_sim/checkout/{session.id}/pay"
    status, _, _ = await http.send("POST", path, key=None, json=failed)
    assert status == 400
    paid = await http.sim(f"checkout/{session.id}/pay")
    assert paid["payment_status"] == "paid"
    found = client.v1.subscriptions.list({"customer": owner, "status": "all"}).data
    assert [made.status for made in found] == ["active", "incomplete_expired"]
    charges = client.v1.charges.list({"customer": owner}).data
    assert sum(charge.amount_captured for charge in charges if charge.paid) == 1000


async def test_subscriptions_have_no_field_that_the_library_does_not_know(
    client: stripe.StripeClient, small: str
) -> None:
    made = subscribe(client, customer(client), small)
    assert set(made.to_dict()) <= set(stripe.Subscription.__annotations__)
    assert set(item_of(made).to_dict()) <= set(stripe.SubscriptionItem.__annotations__)


async def test_a_deleted_customers_subscriptions_end(
    client: stripe.StripeClient, small: str
) -> None:
    owner = customer(client)
    made = subscribe(client, owner, small)
    client.v1.customers.delete(owner)
    assert client.v1.subscriptions.retrieve(made.id).status == "canceled"


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"items": []}, "items"),
        ({"items": [{"price": "price_none"}]}, "items[0][price]"),
        ({"items": [{"price_data": {"currency": "usd"}}]}, "items[0][price_data][unit_amount]"),
        ({"customer": "cus_none"}, "customer"),
        ({"payment_behavior": "hope"}, "payment_behavior"),
    ],
)
async def test_wrong_subscriptions_are_refused(
    client: stripe.StripeClient, small: str, given: dict[str, Any], param: str
) -> None:
    params: Any = {"customer": customer(client), "items": [{"price": small}], **given}
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.subscriptions.create(params)
    assert refused.value.param == param


async def test_a_session_sells_recurring_prices_in_subscription_mode_alone(
    client: stripe.StripeClient, small: str
) -> None:
    params: Any = {
        "mode": "payment",
        "success_url": "https://shop.example/ok",
        "line_items": [{"price": small, "quantity": 1}],
    }
    with pytest.raises(stripe.InvalidRequestError, match="recurring price"):
        client.v1.checkout.sessions.create(params)
    once: Any = {"currency": "usd", "unit_amount": 100, "product_data": {"name": "once"}}
    lines = [{"price_data": once, "quantity": 1}]
    with pytest.raises(stripe.InvalidRequestError, match="at least one recurring price"):
        client.v1.checkout.sessions.create(params | {"mode": "subscription", "line_items": lines})
