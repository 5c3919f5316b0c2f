"""What becomes credits and what does not, from Stripe's own objects to the ledger."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from shared.payments.model import SaleTerms
from tests.fixtures.product import balance, balances, create_organization, transactions
from tests.fixtures.storefront import Storefront
from tests.integration.events import open_purchase

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

CUSTOMERS_COUNT = SaleTerms(Decimal(1), credit_customer_payments=True)
NAMED = {"organization_id": "acme"}


async def customer_of(pool: Pool, storefront: Storefront) -> str:
    """Give the organization a Stripe customer with a card."""
    customer = (await storefront.client.v1.customers.create_async({"name": "Acme"})).id
    await storefront.client.v1.payment_methods.attach_async("pm_card_visa", {"customer": customer})
    await pool.execute("UPDATE organizations SET stripe_customer_id = $1", customer)
    return customer


async def states(pool: Pool, event_type: str) -> list[tuple[str, str | None]]:
    rows = await pool.fetch(
        "SELECT state, reason FROM stripe_events WHERE type = $1 ORDER BY received_at", event_type
    )
    return [(row["state"], row["reason"]) for row in rows]


# Which payments


async def test_m1_a_payment_of_a_known_customer_alone_brings_nothing(
    pool: Pool, organization: Organization, storefront: Storefront
) -> None:
    """A subscription's payment says since 2025-03-31 nowhere that it pays an invoice."""
    customer = await customer_of(pool, storefront)
    await storefront.charge(customer=customer)
    await storefront.deliver_new()
    assert await balance(pool) == 0
    ((state, reason),) = await states(pool, "payment_intent.succeeded")
    assert state == "ignored"
    assert reason is not None
    assert "PREPAID_CREDIT_CUSTOMER_PAYMENTS" in reason


@pytest.mark.parametrize("reversal", ["refund", "inquiry", "dispute"])
@pytest.mark.parametrize("customers_count", [False, True])
async def test_m2_a_reversal_of_what_was_never_credited_adds_nothing(
    pool: Pool,
    organization: Organization,
    storefront: Storefront,
    reversal: str,
    *,
    customers_count: bool,
) -> None:
    if customers_count:
        storefront.terms = CUSTOMERS_COUNT  # and still nobody has this customer
        customer = (await storefront.client.v1.customers.create_async({"name": "Nobody"})).id
    else:
        customer = await customer_of(pool, storefront)
    payment = await storefront.charge(customer=customer)
    await storefront.events()  # its own event is lost
    if reversal == "refund":
        await storefront.refund(payment, 500)
    else:
        await storefront.dispute(payment, inquiry=reversal == "inquiry")
    await storefront.deliver_new()
    await storefront.replay_all()
    assert await transactions(pool) == []


@pytest.mark.parametrize("price_behavior", ["exclusive", "inclusive"])
@pytest.mark.parametrize("first", ["session", "payment"])
@pytest.mark.parametrize("named", ["session", "payment", "reference"])
async def test_m8_tax_is_not_turned_into_credits_whatever_comes_first(
    pool: Pool,
    organization: Organization,
    storefront: Storefront,
    price_behavior: str,
    first: str,
    named: str,
) -> None:
    names: dict[str, dict[str, Any]] = {
        "session": {"metadata": NAMED},
        "payment": {"payment_intent_data": {"metadata": NAMED}},
        "reference": {"client_reference_id": "acme"},
    }
    price = {"exclusive": 2500, "inclusive": 3000}[price_behavior]
    session = await storefront.open(
        price=price,
        price_data={"tax_behavior": price_behavior},
        automatic_tax={"enabled": True},
        **names[named],
    )
    await storefront.pay(session, tax_percent=20)
    bodies = await storefront.events()
    order = {"session": b"checkout.session.completed", "payment": b"payment_intent.succeeded"}
    bodies.sort(key=lambda body: order[first] not in body)
    for body in bodies:
        await storefront.deliver(body)
    assert await balance(pool) == 25
    assert len(await transactions(pool)) == 1


async def test_shipping_and_discounts_buy_no_credits(
    pool: Pool, organization: Organization, storefront: Storefront
) -> None:
    coupon = (await storefront.client.v1.coupons.create_async({"percent_off": 20})).id
    shipping = {
        "shipping_rate_data": {
            "display_name": "Post",
            "type": "fixed_amount",
            "fixed_amount": {"amount": 700, "currency": "usd"},
        }
    }
    session = await storefront.open(
        metadata=NAMED, discounts=[{"coupon": coupon}], shipping_options=[shipping]
    )
    await storefront.pay(session)
    await storefront.deliver_new()
    assert await balance(pool) == 20


async def test_a_refund_takes_the_share_of_the_gross_amount_that_went_back(
    pool: Pool, organization: Organization, storefront: Storefront
) -> None:
    session = await storefront.open(
        price_data={"tax_behavior": "exclusive"}, automatic_tax={"enabled": True}, metadata=NAMED
    )
    payment = await storefront.pay(session, tax_percent=20)
    await storefront.deliver_new()
    await storefront.refund(payment, 600)  # a fifth of 30.00
    await storefront.deliver_new()
    assert await balance(pool) == 20
    await storefront.refund(payment)
    await storefront.deliver_new()
    assert await balance(pool) == 0


async def test_a_session_with_nothing_to_pay_closes_its_purchase_and_credits_nothing(
    pool: Pool, organization: Organization, storefront: Storefront
) -> None:
    coupon = (await storefront.client.v1.coupons.create_async({"percent_off": 100})).id
    session = await storefront.open(metadata=NAMED, discounts=[{"coupon": coupon}])
    purchase = await open_purchase(pool, organization, "free")
    await pool.execute(
        "UPDATE purchases SET checkout_session_id = $2 WHERE id = $1", purchase, session
    )
    await storefront.sim(f"checkout/{session}/pay")
    await storefront.deliver_new()
    state = await pool.fetchval("SELECT state FROM purchases WHERE id = $1", purchase)
    assert state == "free"
    assert await balance(pool) == 0


async def test_a_checkout_sells_what_it_was_opened_for_whatever_the_rate_is_by_then(
    pool: Pool, organization: Organization, storefront: Storefront
) -> None:
    session = await storefront.open(price=1000)
    purchase = await open_purchase(pool, organization, "fixed")
    await pool.execute(
        "UPDATE purchases SET checkout_session_id = $2, credits = 500 WHERE id = $1",
        purchase,
        session,
    )
    storefront.terms = replace(storefront.terms, credits_per_unit=Decimal(3))
    await storefront.pay(session)
    await storefront.deliver_new()
    assert await balance(pool) == 500


async def charged_before_it_is_known(storefront: Storefront) -> tuple[str, str]:
    """Return a customer whose organization is not known yet, and a payment of theirs."""
    storefront.terms = CUSTOMERS_COUNT
    v1 = storefront.client.v1
    customer = (await v1.customers.create_async({"name": "Later"})).id
    await v1.payment_methods.attach_async("pm_card_visa", {"customer": customer})
    return customer, await storefront.charge(customer=customer)


async def test_m16_a_payment_that_is_credited_late_is_credited_at_its_level(
    pool: Pool, organization: Organization, storefront: Storefront
) -> None:
    customer, refunded = await charged_before_it_is_known(storefront)
    await storefront.refund(refunded)
    part = await storefront.charge(customer=customer)
    await storefront.refund(part, 500)
    await storefront.deliver_new()
    assert await transactions(pool) == []
    # A purchase that names the organization says whose customer it is.
    await storefront.charge(1000, customer=customer, metadata=NAMED)
    await storefront.deliver_new()
    await storefront.deliver()
    assert await balance(pool) == 10 + 0 + 15
    await storefront.replay_all()
    assert await balance(pool) == 25


async def test_m16_what_is_credited_late_brings_what_is_left_though_its_refund_has_no_event(
    pool: Pool, organization: Organization, storefront: Storefront
) -> None:
    customer, refunded = await charged_before_it_is_known(storefront)
    for lost in ("charge.refunded", "refund.created", "refund.updated"):
        await storefront.sim("faults", event=lost, fault="never_generated", times=1)
    await storefront.refund(refunded, 500)
    await storefront.charge(1000, customer=customer, metadata=NAMED)
    await storefront.deliver_new()
    assert await balance(pool) == 10 + 15


async def test_a_payment_of_a_known_customer_that_pays_an_invoice_is_never_credited_itself(
    pool: Pool, organization: Organization, storefront: Storefront
) -> None:
    storefront.terms = CUSTOMERS_COUNT
    customer = await customer_of(pool, storefront)
    v1 = storefront.client.v1
    methods = await v1.payment_methods.list_async({"customer": customer, "type": "card"})
    await v1.customers.update_async(
        customer, {"invoice_settings": {"default_payment_method": methods.data[0].id}}
    )
    await v1.invoice_items.create_async({"customer": customer, "amount": 2000, "currency": "usd"})
    invoice = await v1.invoices.create_async(
        {"customer": customer, "pending_invoice_items_behavior": "include"}
    )
    await v1.invoices.pay_async(invoice.id)
    await storefront.deliver_new()
    assert await transactions(pool) == []
    ((state, reason),) = await states(pool, "payment_intent.succeeded")
    assert state == "ignored"
    assert reason is not None
    assert invoice.id in reason


# Who


async def test_two_organizations_in_the_metadata_of_one_payment_credit_nobody(
    pool: Pool, organization: Organization, storefront: Storefront
) -> None:
    await create_organization(pool, "globex")
    session = await storefront.open(
        metadata={"organization_id": "globex"},
        payment_intent_data={"metadata": NAMED},
    )
    await storefront.pay(session)
    await storefront.deliver_new()
    assert await balances(pool) == {"acme": 0, "globex": 0}
    for event_type in ("payment_intent.succeeded", "checkout.session.completed"):
        ((state, reason),) = await states(pool, event_type)
        assert state == "dead"
        assert reason is not None
        assert "'acme'" in reason
        assert "'globex'" in reason


async def test_a_buyer_who_chooses_another_organization_binds_neither_customer_nor_card(
    pool: Pool, organization: Organization, storefront: Storefront
) -> None:
    session = await storefront.open(
        client_reference_id="acme",
        customer_creation="always",
        payment_intent_data={"setup_future_usage": "off_session"},
    )
    await storefront.pay(session)
    await storefront.deliver_new()
    assert await balance(pool) == 25
    assert await pool.fetchval("SELECT stripe_customer_id FROM organizations") is None
    assert await pool.fetchval("SELECT count(*) FROM payment_methods") == 0


# Bad input: a clear reason on that event, nothing credited, the rest of the batch unharmed


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"price_data": {"currency": "eur"}}, "eur"),
        ({"metadata": {"organization_id": "nobody"}}, "nobody"),
    ],
)
async def test_a_sale_that_cannot_be_one_is_dead_and_harms_no_other(
    pool: Pool,
    organization: Organization,
    storefront: Storefront,
    changes: dict[str, Any],
    word: str,
) -> None:
    bad = await storefront.open(**{"metadata": NAMED, **changes})
    await storefront.pay(bad)
    good = await storefront.open(metadata=NAMED)
    await storefront.pay(good)
    await storefront.deliver(*await storefront.events())
    assert await balance(pool) == 25
    dead = await pool.fetch("SELECT type, reason FROM stripe_events WHERE state = 'dead'")
    assert {row["type"] for row in dead} == {
        "checkout.session.completed",
        "payment_intent.succeeded",
    }
    assert all(word in row["reason"] for row in dead)
