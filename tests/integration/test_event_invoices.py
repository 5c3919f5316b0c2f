"""Paid invoices: what they bring, and to whom."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.signed_events import event
from tests.fixtures.product import (
    balance,
    create_organization,
    payment,
    transactions,
)
from tests.integration.invoices import ACME, KEY, apply, invoice, line, reasons
from worker.drainer import Drainer

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization
    from tests.fixtures.stripe_answers import StripeAnswers


# The cases about money


async def test_m1_a_renewal_is_credited_by_its_invoice_alone(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    await pool.execute("UPDATE organizations SET stripe_customer_id = 'cus_1'")
    stripe_answers.pay_invoice(customer="cus_1")
    paid = payment("1", customer="cus_1", amount=2000, metadata={})
    renewal = invoice(metadata={}, subscription_metadata={"prepaid_credits": "250"})
    assert await apply(pool, asking, paid, renewal) == ["ignored", "applied"]
    assert await balance(pool) == 250
    assert "pi_1 pays in_1" in await reasons(pool)


async def test_m5_a_price_that_is_named_by_its_id_is_asked_for(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.price(credits_="250")
    await apply(pool, asking, invoice("paid", line()))
    assert await balance(pool) == 250
    assert stripe_answers.asked == ["/v1/prices/price_1", "/v1/invoice_payments"]


async def test_m9_prorations_count_with_their_sign_and_share(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    old = stripe_answers.price("old", credits_="250")
    new = stripe_answers.price("new", credits_="250")
    lines = [
        line(old, -967, proration=True),
        line(new, 1000, proration=True, quantity=2),
    ]
    changed = invoice(
        "paid", *lines, total=33, amount_paid=33, billing_reason="subscription_update"
    )
    await apply(pool, asking, changed)
    assert await balance(pool) == Decimal("8.25")


# What it brings


async def test_an_invoice_that_says_credits_brings_them_once(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    assert await apply(pool, drainer, invoice(), invoice()) == ["applied", "applied"]
    (row,) = await transactions(pool)
    assert (row["type"], row["amount"], row["idempotency_key"]) == ("purchase", 250, KEY)


async def test_prices_say_credits_for_each_of_their_quantity(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    price = {"id": "price_1", "metadata": {"prepaid_credits": "12.5"}}
    lines = {"data": [{"amount": 500, "quantity": 3, "price": price}, {"amount": -9}]}
    old: dict[str, Any] = {"metadata": ACME, "lines": lines, "parent": None}
    await apply(pool, drainer, invoice(**old, subscription="sub_1"))
    assert await balance(pool) == 37.5


async def test_an_invoice_of_no_subscription_brings_what_it_says(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    assert await apply(pool, drainer, invoice(parent=None)) == ["applied"]
    assert [row["description"] for row in await transactions(pool)] == ["Invoice"]


@pytest.mark.parametrize(
    "changes",
    [
        {"metadata": ACME, "parent": None},
        {"amount_paid": 0, "total": 0},
        {"amount_paid": 0, "total": None},
        {"amount_paid": 0, "total": -500},
    ],
)
async def test_an_invoice_that_says_no_credits_or_charges_nothing_brings_none(
    pool: Pool, organization: Organization, drainer: Drainer, changes: dict[str, Any]
) -> None:
    assert await apply(pool, drainer, invoice(**changes)) == ["ignored"]
    assert await transactions(pool) == []


@pytest.mark.parametrize("said", ["-5", "NaN", "1e9", 5, "9" * 40])
@pytest.mark.parametrize("where", ["invoice", "subscription", "price"])
async def test_credits_that_are_no_amount_are_refused(
    pool: Pool, organization: Organization, drainer: Drainer, said: Any, where: str
) -> None:
    says = {"prepaid_credits": said}
    price = {"id": "price_1", "metadata": says if where == "price" else {}}
    body = invoice(
        "paid",
        line(price),
        metadata={**ACME, **says} if where == "invoice" else ACME,
        subscription_metadata=says if where == "subscription" else {},
    )
    assert await apply(pool, drainer, body, invoice(id="in_2")) == ["dead", "applied"]
    assert "write credits like 250" in await reasons(pool)


@pytest.mark.parametrize("word", ["payment_failed", "payment_action_required", "voided"])
async def test_an_invoice_that_is_not_paid_changes_nothing(
    pool: Pool, organization: Organization, drainer: Drainer, word: str
) -> None:
    assert await apply(pool, drainer, invoice(word)) == ["ignored"]


async def test_the_payment_of_an_invoice_is_no_purchase(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    assert await apply(pool, drainer, payment("1", invoice="in_1")) == ["ignored"]
    assert await transactions(pool) == []


async def test_an_invoice_paid_from_the_balance_or_out_of_band_brings_all_of_it(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    await apply(pool, asking, invoice(amount_paid=0))
    assert await balance(pool) == 250
    assert [row["payment_intent_id"] for row in await transactions(pool)] == [None]


async def test_a_downgrade_takes_back_what_an_upgrade_brought(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    small = stripe_answers.price("small", credits_="100")
    large = stripe_answers.price("large", credits_="250", unit_amount=2000)
    up = [line(small, -500, proration=True), line(large, 1000, proration=True)]
    down = [line(large, -1000, proration=True), line(small, 500, proration=True)]
    await apply(
        pool,
        asking,
        invoice("paid", *up, total=500, amount_paid=500),
        invoice("paid", *down, id="in_2", total=-500, amount_paid=0),
        invoice("paid", *up, id="in_3", total=500, amount_paid=0),
    )
    rows = await transactions(pool)
    assert sorted((row["type"], row["amount"]) for row in rows) == [
        ("adjustment", -75),
        ("purchase", 75),
        ("purchase", 75),
    ]
    assert {row["counterparty"] for row in rows} == {"stripe"}


async def test_a_downgrade_takes_back_credits_that_are_used_already(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    price = stripe_answers.price(credits_="100")
    body = invoice("paid", line(price, -500, proration=True), total=-500, amount_paid=0)
    assert await apply(pool, asking, body, body) == ["applied"]
    assert await balance(pool) == -50


async def test_an_invoice_in_another_currency_is_refused(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    assert await apply(pool, drainer, invoice(currency="eur")) == ["dead"]
    assert "eur" in await reasons(pool)


# Lines and prices that the event lacks


async def test_all_lines_count_with_one_question_for_each_page(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.price(credits_="2")
    lines = [line(amount=10) for _ in range(250)]
    stripe_answers.lines["in_1"] = lines
    await apply(pool, asking, invoice("paid", *lines[:10], more=True))
    assert await balance(pool) == 500
    assert stripe_answers.asked == ["/v1/invoices/in_1/lines"] * 3 + ["/v1/invoice_payments"]


async def test_lines_are_not_asked_for_where_the_invoice_says_a_total(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    says = {**ACME, "prepaid_credits": "7"}
    await apply(pool, asking, invoice("paid", line(), more=True, metadata=says))
    assert await balance(pool) == 7
    assert stripe_answers.asked == ["/v1/invoice_payments"]


async def test_each_price_is_asked_for_once(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.price("1", credits_="10")
    stripe_answers.price("2", credits_="1")
    await apply(pool, asking, invoice("paid", line(), line("price_2"), line(), line("price_2")))
    assert await balance(pool) == 22
    assert sorted(stripe_answers.asked[:-1]) == ["/v1/prices/price_1", "/v1/prices/price_2"]


async def test_a_price_that_stripe_does_not_know_is_a_clear_error(
    pool: Pool, organization: Organization, asking: Drainer
) -> None:
    assert await apply(pool, asking, invoice("paid", line("price_gone"))) == ["dead"]
    assert "Stripe knows no price price_gone, which in_1 names." in await reasons(pool)


async def test_an_invoice_waits_while_stripe_does_not_answer(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.price(credits_="10")
    stripe_answers.status = 500
    assert await apply(pool, asking, invoice("paid", line())) == ["retrying"]
    stripe_answers.status = 200
    await pool.execute("UPDATE stripe_events SET available_at = now()")
    await asking.drain()
    assert await balance(pool) == 10


async def test_an_invoice_without_credits_is_asked_about_no_further(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.price()
    assert await apply(pool, asking, invoice("paid", line())) == ["ignored"]
    assert stripe_answers.asked == ["/v1/prices/price_1"]


# Whose it is


async def test_the_metadata_of_the_subscription_names_the_organization(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    says = {"prepaid_credits": "250"}
    for name in ("acme", str(organization.id)):
        body = invoice(
            id=f"in_{name}", metadata=says, subscription_metadata={"organization_id": name}
        )
        await apply(pool, drainer, body)
    assert await balance(pool) == 500


async def test_two_names_of_one_organization_are_one(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    body = invoice(subscription_metadata={"organization_id": str(organization.id)})
    assert await apply(pool, drainer, body) == ["applied"]


@pytest.mark.parametrize("other", ["globex", "nobody"])
async def test_two_organizations_in_the_metadata_are_refused(
    pool: Pool, organization: Organization, drainer: Drainer, other: str
) -> None:
    await create_organization(pool, "globex")
    body = invoice(subscription_metadata={"organization_id": other})
    assert await apply(pool, drainer, body) == ["dead"]
    reason = await reasons(pool)
    assert "'acme'" in reason
    assert f"'{other}'" in reason
    assert await transactions(pool) == []


@pytest.mark.parametrize(("account", "state"), [(None, "applied"), ("acct_other", "dead")])
async def test_a_customer_is_known_in_its_own_account(
    pool: Pool, organization: Organization, drainer: Drainer, account: str | None, state: str
) -> None:
    await pool.execute("UPDATE organizations SET stripe_customer_id = 'cus_1'")
    fields = {
        "id": "in_1",
        "total": 2000,
        "customer": "cus_1",
        "currency": "usd",
        "metadata": {"prepaid_credits": "250"},
    }
    body = event("1", "invoice.paid", fields, **({"account": account} if account else {}))
    assert await apply(pool, drainer, body) == [state]


async def test_credits_of_a_customer_that_nobody_has_are_dead(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    unowned = invoice(metadata={"prepaid_credits": "250"})
    without = invoice(id="in_2", metadata={})
    assert await apply(pool, drainer, unowned, without) == ["dead", "ignored"]
    reason = await reasons(pool)
    assert "no organization has its Stripe customer cus_1" in reason
    assert "replay" in reason


async def test_credits_for_nobody_are_refused(pool: Pool, drainer: Drainer) -> None:
    body = invoice(metadata={"prepaid_credits": "250"}, customer=None)
    assert await apply(pool, drainer, body) == ["dead"]
    assert "names no organization and no customer" in await reasons(pool)


async def test_an_organization_that_does_not_exist_is_named(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    body = invoice(metadata={"organization_id": "nobody", "prepaid_credits": "250"})
    assert await apply(pool, drainer, body) == ["dead"]
    assert "'nobody'" in await reasons(pool)


async def test_everything_about_an_invoice_is_asked_of_its_account(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.price(credits_="10")
    stripe_answers.lines["in_1"] = [line()]
    stripe_answers.pay_invoice()
    body = json.loads(invoice("paid", line(), more=True)) | {"account": "acct_1"}
    await apply(pool, asking, json.dumps(body).encode())
    assert stripe_answers.asked == [
        "/v1/invoices/in_1/lines",
        "/v1/invoice_payments",
        "/v1/payment_intents/pi_1",
        "/v1/refunds",
        "/v1/disputes",
    ]
    assert set(stripe_answers.accounts) == {"acct_1"}
    assert await pool.fetchval("SELECT stripe_account FROM stripe_payments") == "acct_1"
