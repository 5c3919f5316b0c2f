"""Paid invoices, and payments of connected accounts, of which no event arrived."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from shared.reconciliation.model import FindingKind, Outcome, RunMode
from tests.fixtures import product
from tests.fixtures.product import transactions
from tests.integration.reconciliation.conftest import FOR_US, Books

CONNECTED = "acct_of_a_reseller"


async def pay_invoice(books: Books, metadata: dict[str, str]) -> str:
    """Pay an invoice over 20.00 with a card; return it."""
    v1 = books.shop.client.v1
    customer = await v1.customers.create_async({"name": "Acme"})
    card = await v1.payment_methods.attach_async("pm_card_visa", {"customer": customer.id})
    await v1.customers.update_async(
        customer.id, {"invoice_settings": {"default_payment_method": card.id}}
    )
    item: Any = {"customer": customer.id, "amount": 2000, "currency": "usd"}
    await v1.invoice_items.create_async(item)
    params: Any = {
        "customer": customer.id,
        "pending_invoice_items_behavior": "include",
        "metadata": metadata,
    }
    invoice = await v1.invoices.create_async(params)
    await v1.invoices.pay_async(invoice.id)
    return invoice.id


async def test_a_paid_invoice_without_an_event_is_credited_by_its_metadata_once(
    books: Books,
) -> None:
    await books.lose("*", "never_generated", times=99)
    invoice = await pay_invoice(books, {"organization_id": "acme", "prepaid_credits": "500"})
    assert await books.found() == {(FindingKind.CHARGED_NOT_CREDITED, invoice)}
    (finding,) = await books.findings(await books.run(RunMode.REPAIR))
    assert (finding.outcome, finding.credits) == (Outcome.REPAIRED, Decimal(500))
    assert await books.balance() == 500
    assert (await books.run()).findings == {}


async def test_an_invoice_that_brings_no_credits_is_no_difference(books: Books) -> None:
    await books.lose("*", "never_generated", times=99)
    await pay_invoice(books, {})
    assert (await books.run(RunMode.REPAIR)).findings == {}


async def test_payments_and_events_of_a_connected_account_are_compared_too(books: Books) -> None:
    settings = product.settings(PREPAID_STRIPE_ACCOUNTS=CONNECTED)
    books = replace(books, settings=settings)
    params: Any = {
        "amount": 2000,
        "currency": "usd",
        "confirm": True,
        "payment_method": "pm_card_visa",
        "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
        **FOR_US,
    }
    options: Any = {"stripe_account": CONNECTED}
    intents = books.shop.client.v1.payment_intents
    with_event = (await intents.create_async(params, options)).id
    await books.lose("*", "never_generated", times=99)
    without_event = (await intents.create_async(params, options)).id
    summary = await books.run(RunMode.REPAIR)
    assert (summary.count(FindingKind.MISSING_EVENT), summary.drift) == (1, 0)
    bound = await books.pool.fetch("SELECT payment_intent_id, stripe_account FROM stripe_payments")
    assert {tuple(row) for row in bound} == {
        (with_event, CONNECTED),
        (without_event, CONNECTED),
    }
    assert len(await transactions(books.pool)) == 2
    assert (await books.run()).findings == {}
