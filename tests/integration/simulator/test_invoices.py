"""Invoices without a subscription: lines, payments, balance, and what is paid elsewhere."""

from typing import Any

import pytest
import stripe

from tests.integration.simulator.conftest import Http, Receiver

pytestmark = pytest.mark.asyncio(loop_scope="module")


def customer(client: stripe.StripeClient, card: str | None = "pm_card_visa") -> str:
    customer_id = client.v1.customers.create({"email": "a@b.co"}).id
    if card is not None:
        method = client.v1.payment_methods.attach(card, {"customer": customer_id})
        client.v1.customers.update(
            customer_id, {"invoice_settings": {"default_payment_method": method.id}}
        )
    return customer_id


def draft(client: stripe.StripeClient, owner: str, *amounts: int, **more: Any) -> stripe.Invoice:
    params: Any = {"customer": owner, **more}
    invoice = client.v1.invoices.create(params)
    for amount in amounts:
        client.v1.invoice_items.create(
            {"customer": owner, "invoice": invoice.id, "amount": amount, "description": "credits"}
        )
    return client.v1.invoices.retrieve(invoice.id)


async def test_an_invoice_is_finalized_and_paid_by_a_payment_intent(
    client: stripe.StripeClient, http: Http, receiver: Receiver
) -> None:
    owner = customer(client)
    opened = draft(client, owner, 2000, 500)
    assert (opened.status, opened.total, opened.number) == ("draft", 2500, None)
    finalized = client.v1.invoices.finalize_invoice(opened.id)
    assert (finalized.status, finalized.amount_due) == ("open", 2500)
    paid = client.v1.invoices.pay(opened.id, params={"expand": ["payments"]})
    assert (paid.status, paid.amount_paid, paid.amount_remaining) == ("paid", 2500, 0)
    assert paid.payments is not None
    (payment,) = paid.payments.data
    assert (payment.status, payment.amount_paid) == ("paid", 2500)
    intent_id = payment.payment.payment_intent
    assert isinstance(intent_id, str)
    intent = client.v1.payment_intents.retrieve(intent_id)
    assert (intent.customer, intent.metadata.to_dict()) == (owner, {})
    await http.sim("deliveries/flush")
    about = [
        event["type"]
        for event in receiver.events
        if any(i in str(event["data"]["object"]) for i in (opened.id, intent_id))
        and event["type"] != "invoiceitem.created"
    ]
    assert about == [
        "invoice.created",
        "invoice.finalized",
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
        "invoice_payment.paid",
        "invoice.paid",
        "invoice.payment_succeeded",
        "charge.updated",
    ]


async def test_payments_are_found_by_invoice_and_by_payment_intent(
    client: stripe.StripeClient,
) -> None:
    opened = draft(client, customer(client), 2000)
    client.v1.invoices.pay(opened.id)
    (by_invoice,) = client.v1.invoice_payments.list({"invoice": opened.id}).data
    intent = by_invoice.payment.payment_intent
    assert isinstance(intent, str)
    by_intent = client.v1.invoice_payments.list(
        {"payment": {"type": "payment_intent", "payment_intent": intent}}
    )
    assert [payment.id for payment in by_intent.data] == [by_invoice.id]
    assert client.v1.invoice_payments.retrieve(by_invoice.id).invoice == opened.id
    other = client.v1.payment_intents.create({"amount": 1000, "currency": "usd"})
    none = client.v1.invoice_payments.list(
        {"payment": {"type": "payment_intent", "payment_intent": other.id}}
    )
    assert none.data == []


async def test_a_declined_card_leaves_an_invoice_open(
    client: stripe.StripeClient, http: Http, receiver: Receiver
) -> None:
    owner = customer(client)
    method = client.v1.customers.payment_methods.list(owner).data[0].id
    await http.sim(f"payment_methods/{method}/card", {"card": "4000000000000002"})
    opened = draft(client, owner, 2000)
    with pytest.raises(stripe.CardError):
        client.v1.invoices.pay(opened.id)
    failed = client.v1.invoices.retrieve(opened.id)
    assert (failed.status, failed.attempt_count, failed.amount_paid) == ("open", 1, 0)
    await http.sim(f"payment_methods/{method}/card", {"card": "4242424242424242"})
    assert client.v1.invoices.pay(opened.id).status == "paid"
    await http.sim("deliveries/flush")
    about = [kind for kind in receiver.types(opened.id) if kind.startswith("invoice.pa")]
    assert about == ["invoice.payment_failed", "invoice.paid", "invoice.payment_succeeded"]


async def test_an_invoice_paid_out_of_band_has_no_payment(client: stripe.StripeClient) -> None:
    owner = customer(client, card=None)
    opened = draft(client, owner, 2000, collection_method="send_invoice", days_until_due=30)
    client.v1.invoices.finalize_invoice(opened.id)
    paid = client.v1.invoices.pay(opened.id, {"paid_out_of_band": True})
    assert (paid.status, paid.amount_paid_off_stripe, paid.amount_remaining) == ("paid", 2000, 0)
    (payment,) = client.v1.invoice_payments.list({"invoice": opened.id}).data
    assert payment.status == "canceled"
    intent = payment.payment.payment_intent
    assert isinstance(intent, str)
    assert client.v1.payment_intents.retrieve(intent).status == "canceled"


async def test_a_negative_total_becomes_credit_that_pays_the_next_invoice(
    client: stripe.StripeClient,
) -> None:
    owner = customer(client)
    back = client.v1.invoices.pay(draft(client, owner, -3000).id)
    assert (back.status, back.total, back.amount_due, back.amount_paid) == ("paid", -3000, 0, 0)
    assert (back.starting_balance, back.ending_balance) == (0, -3000)
    assert client.v1.customers.retrieve(owner).balance == -3000
    covered = client.v1.invoices.pay(draft(client, owner, 2000).id)
    assert (covered.total, covered.amount_due, covered.amount_paid) == (2000, 0, 0)
    assert client.v1.invoice_payments.list({"invoice": covered.id}).data == []
    rest = client.v1.invoices.pay(draft(client, owner, 2000).id)
    assert (rest.total, rest.amount_due, rest.amount_paid) == (2000, 1000, 1000)
    assert client.v1.customers.retrieve(owner).balance == 0


async def test_less_than_a_card_can_pay_waits_on_the_balance(client: stripe.StripeClient) -> None:
    owner = customer(client)
    small = client.v1.invoices.pay(draft(client, owner, 33).id)
    assert (small.status, small.amount_due, small.ending_balance) == ("paid", 0, 33)
    assert client.v1.invoices.pay(draft(client, owner, 2000).id).amount_paid == 2033


async def test_tax_and_discount_are_summed_up(client: stripe.StripeClient) -> None:
    owner = customer(client)
    coupon = client.v1.coupons.create({"percent_off": 10}).id
    rate = client.v1.tax_rates.create({"display_name": "VAT", "percentage": 20, "inclusive": True})
    opened = draft(client, owner, 6000, discounts=[{"coupon": coupon}], default_tax_rates=[rate.id])
    assert (opened.subtotal, opened.total) == (6000, 5400)
    assert (opened.subtotal_excluding_tax, opened.total_excluding_tax) == (5000, 4500)
    assert opened.total_taxes is not None
    assert [(tax.amount, tax.tax_behavior) for tax in opened.total_taxes] == [(900, "inclusive")]
    assert opened.total_discount_amounts is not None
    assert [given.amount for given in opened.total_discount_amounts] == [600]
    (line,) = opened.lines.data
    assert (line.amount, line.subtotal) == (6000, 6000)


async def test_an_invoice_of_250_lines_is_paged_in_three(
    client: stripe.StripeClient, http: Http, receiver: Receiver
) -> None:
    owner = customer(client)
    price = client.v1.prices.create(
        {
            "currency": "usd",
            "unit_amount": 100,
            "product_data": {"name": "credit"},
            "metadata": {"prepaid_credits": "1"},
        }
    ).id
    opened = draft(client, owner)
    lines: Any = [{"pricing": {"price": price}, "quantity": 1} for _ in range(250)]
    client.v1.invoices.add_lines(opened.id, {"lines": lines})
    paid = client.v1.invoices.pay(opened.id)
    assert (paid.amount_paid, len(paid.lines.data), paid.lines.has_more) == (25_000, 10, True)
    seen: list[stripe.InvoiceLineItem] = []
    pages = 0
    more = True
    while more:
        params: Any = {"limit": 100, "expand": ["data.pricing.price_details.price"]}
        if seen:
            params["starting_after"] = seen[-1].id
        page = client.v1.invoices.line_items.list(opened.id, params)
        seen += page.data
        pages, more = pages + 1, page.has_more
    assert (pages, len({line.id for line in seen})) == (3, 250)
    assert [line.id for line in paid.lines.data] == [line.id for line in seen[:10]]
    last = seen[-1].pricing
    assert last is not None
    assert last.price_details is not None
    assert isinstance(last.price_details.price, stripe.Price)
    assert last.price_details.price.metadata["prepaid_credits"] == "1"
    await http.sim("deliveries/flush")
    sent = next(
        event["data"]["object"]
        for event in receiver.events
        if event["type"] == "invoice.paid" and event["data"]["object"]["id"] == opened.id
    )
    assert (len(sent["lines"]["data"]), sent["lines"]["has_more"]) == (10, True)


async def test_an_injected_invoice_has_all_of_its_lines(
    client: stripe.StripeClient, http: Http
) -> None:
    lines = [
        {
            "amount": 100 + number,
            "quantity": 1,
            "pricing": {
                "type": "price_details",
                "price_details": {"price": "price_elsewhere", "product": "prod_elsewhere"},
            },
        }
        for number in range(12)
    ]
    event = await http.sim(
        "events",
        {
            "type": "invoice.paid",
            "object": {"id": "in_elsewhere", "lines": {"data": lines, "has_more": False}},
        },
    )
    shown = event["data"]["object"]["lines"]
    assert (len(shown["data"]), shown["has_more"]) == (10, True)
    listed = client.v1.invoices.line_items.list(
        "in_elsewhere", {"limit": 100, "expand": ["data.pricing.price_details.price"]}
    )
    assert [line.amount for line in listed.data] == [100 + number for number in range(12)]
    await http.sim(
        "events",
        {
            "type": "invoice_payment.paid",
            "object": {
                "id": "inpay_elsewhere",
                "invoice": "in_elsewhere",
                "payment": {"type": "payment_intent", "payment_intent": "pi_for_invoice"},
            },
        },
    )
    found = client.v1.invoice_payments.list(
        {"payment": {"type": "payment_intent", "payment_intent": "pi_for_invoice"}}
    )
    assert [payment.invoice for payment in found.data] == ["in_elsewhere"]


async def test_a_checkout_sessions_invoice_has_its_lines_and_its_payment(
    client: stripe.StripeClient, http: Http
) -> None:
    session = client.v1.checkout.sessions.create(
        {
            "mode": "payment",
            "success_url": "https://shop.example/ok",
            "invoice_creation": {"enabled": True, "invoice_data": {"metadata": {"a": "b"}}},
            "automatic_tax": {"enabled": True},
            "line_items": [
                {
                    "price_data": {
                        "currency": "usd",
                        "unit_amount": 2500,
                        "product_data": {"name": "25 credits"},
                    },
                    "quantity": 1,
                }
            ],
        }
    )
    paid = await http.sim(f"checkout/{session.id}/pay", {"email": "x@y.zz"})
    invoice = client.v1.invoices.retrieve(paid["invoice"])
    assert (invoice.subtotal, invoice.total, invoice.amount_paid) == (2500, 3000, 3000)
    assert invoice.metadata is not None
    assert invoice.metadata["a"] == "b"
    (line,) = invoice.lines.data
    assert line.amount == 2500
    (payment,) = client.v1.invoice_payments.list({"invoice": invoice.id}).data
    assert payment.payment.payment_intent == paid["payment_intent"]


async def test_invoices_have_no_field_that_the_library_does_not_know(
    client: stripe.StripeClient,
) -> None:
    invoice = client.v1.invoices.pay(draft(client, customer(client), 2000).id)
    (payment,) = client.v1.invoice_payments.list({"invoice": invoice.id}).data
    items = client.v1.invoice_items.list({"invoice": invoice.id}).data
    for found, kind in (
        (invoice, stripe.Invoice),
        (invoice.lines.data[0], stripe.InvoiceLineItem),
        (payment, stripe.InvoicePayment),
        (items[0], stripe.InvoiceItem),
    ):
        assert set(found.to_dict()) <= set(kind.__annotations__)


async def test_a_voided_invoice_cannot_be_paid(client: stripe.StripeClient) -> None:
    opened = draft(client, customer(client), 2000)
    client.v1.invoices.finalize_invoice(opened.id)
    assert client.v1.invoices.void_invoice(opened.id).status == "void"
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.invoices.pay(opened.id)
