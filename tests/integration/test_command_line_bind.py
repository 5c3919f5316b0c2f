"""prepaid bind: a customer or a payment gets its organization, and waiting events are applied."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tests.fixtures.commands import Command, assert_refused
from tests.fixtures.product import balance, create_organization
from tests.fixtures.recharging import Shop
from tests.fixtures.storefront import Storefront
from worker.drainer import Drainer

if TYPE_CHECKING:
    from sandbox.stripe.process import SimulatorProcess
    from shared.db.pool import Pool

REASON = ("--reason", "the buyer wrote to us")


async def pay(shop: Shop, **metadata: str) -> Any:
    customer = await shop.client.v1.customers.create_async({"name": "Somebody"})
    return await shop.client.v1.payment_intents.create_async(
        {
            "amount": 2500,
            "currency": "usd",
            "customer": customer.id,
            "payment_method": "pm_card_visa",
            "allowed_payment_method_types": ["card"],
            "confirm": True,
            "metadata": metadata,
        }
    )


async def test_a_payment_that_names_nobody_is_credited_once_where_it_is_bound(
    prepaid: Command, pool: Pool, shop: Shop, stand_in: SimulatorProcess
) -> None:
    paid = await pay(shop)
    stripe = {"STRIPE_API_BASE": stand_in.url}
    bound = await prepaid("bind", "acme", paid.id, *REASON, "--json", **stripe)
    assert bound.code == 0, bound
    assert (bound.json["amount"], bound.json["changed"]) == (25, True)
    again = await prepaid("bind", "acme", paid.id, *REASON, "--json", **stripe)
    assert (again.json["transactionId"], again.json["changed"]) == (
        bound.json["transactionId"],
        False,
    )
    shown = (await prepaid("orgs", "show", "acme", "--json")).json
    assert (shown["balance"], shown["stripeCustomerId"]) == (25, paid.customer)
    entries = await pool.fetch("SELECT action, subject, reason FROM audit_log")
    assert [tuple(row) for row in entries] == [("organizations.bind", paid.id, REASON[1])]
    await create_organization(pool, "globex")
    refused = await prepaid("bind", "globex", paid.id, *REASON, **stripe)
    assert_refused(refused, "was credited to the organization", str(shop.owner.id))


async def test_a_payment_that_names_another_organization_is_refused(
    prepaid: Command, pool: Pool, shop: Shop, stand_in: SimulatorProcess
) -> None:
    await create_organization(pool, "globex")
    stripe = {"STRIPE_API_BASE": stand_in.url}
    paid = await pay(shop, organization_id="globex")
    assert_refused(await prepaid("bind", "acme", paid.id, *REASON, **stripe), "names", "globex")
    misspelled = await pay(shop, organization_id="acmee")
    bound = await prepaid("bind", "acme", misspelled.id, *REASON, "--json", **stripe)
    assert (bound.code, bound.json["amount"]) == (0, 25), bound
    unknown = await prepaid("bind", "acme", "pi_unknown", *REASON, **stripe)
    assert_refused(unknown, "Stripe has no payment pi_unknown")
    assert (await prepaid("bind", "acme", "ch_1", *REASON)).code == 2


async def test_a_payment_whose_link_names_another_organization_is_refused(
    prepaid: Command, storefront: Storefront, stand_in: SimulatorProcess
) -> None:
    """The session's `client_reference_id` credits globex when its event arrives."""
    for slug in ("acme", "globex"):
        await create_organization(storefront.pool, slug)
    paid = await storefront.pay(await storefront.open(client_reference_id="globex"))
    refused = await prepaid("bind", "acme", paid, *REASON, STRIPE_API_BASE=stand_in.url)
    assert_refused(refused, "names", "globex")


async def test_a_payment_of_another_organizations_customer_is_refused_where_it_is_credited(
    prepaid: Command, pool: Pool, shop: Shop, stand_in: SimulatorProcess
) -> None:
    await create_organization(pool, "globex")
    paid = await pay(shop)
    stripe = {"STRIPE_API_BASE": stand_in.url}
    by_customer = {**stripe, "PREPAID_CREDIT_CUSTOMER_PAYMENTS": "1"}
    assert (await prepaid("bind", "globex", paid.customer, *REASON, **stripe)).code == 0
    refused = await prepaid("bind", "acme", paid.id, *REASON, **by_customer)
    assert_refused(refused, paid.customer, "the customer of globex")
    bound = await prepaid("bind", "acme", paid.id, *REASON, "--json", **stripe)
    assert (bound.code, bound.json["amount"]) == (0, 25), bound


async def test_a_customer_is_bound_once_and_to_one_organization(
    prepaid: Command, pool: Pool, shop: Shop, stand_in: SimulatorProcess
) -> None:
    stripe = {"STRIPE_API_BASE": stand_in.url}
    customer = await shop.client.v1.customers.create_async({"name": "Acme"})
    bound = await prepaid("bind", "acme", customer.id, *REASON, "--json", **stripe)
    assert (bound.code, bound.json["changed"]) == (0, True), bound
    again = await prepaid("bind", "acme", customer.id, *REASON, "--json", **stripe)
    assert (again.code, again.json["changed"]) == (0, False)
    other = await shop.client.v1.customers.create_async({"name": "Other"})
    assert_refused(await prepaid("bind", "acme", other.id, *REASON, **stripe), customer.id)
    await create_organization(pool, "globex")
    refused = await prepaid("bind", "globex", customer.id, *REASON, **stripe)
    assert_refused(refused, "customer of another organization")
    missing = await prepaid("bind", "globex", "cus_unknown", *REASON, **stripe)
    assert_refused(missing, "Stripe has no customer")


async def test_what_was_refunded_of_a_bound_payment_is_taken_back_at_once(
    prepaid: Command, shop: Shop, stand_in: SimulatorProcess
) -> None:
    paid = await pay(shop)
    await shop.client.v1.refunds.create_async({"payment_intent": paid.id, "amount": 500})
    bound = await prepaid("bind", "acme", paid.id, *REASON, STRIPE_API_BASE=stand_in.url)
    assert bound.code == 0, bound
    shown = (await prepaid("orgs", "show", "acme", "--json")).json
    assert shown["balance"] == 20


async def test_a_payment_is_bound_to_no_closed_organization_and_an_unpaid_one_to_none(
    prepaid: Command, pool: Pool, shop: Shop, stand_in: SimulatorProcess
) -> None:
    stripe = {"STRIPE_API_BASE": stand_in.url}
    unpaid = await shop.client.v1.payment_intents.create_async({"amount": 2500, "currency": "usd"})
    refused = await prepaid("bind", "acme", unpaid.id, *REASON, **stripe)
    assert_refused(refused, "requires_payment_method", "not paid")
    paid = await pay(shop)
    assert (await prepaid("orgs", "close", "acme", *REASON)).code == 0
    assert_refused(await prepaid("bind", "acme", paid.id, *REASON, **stripe), "closed")
    assert await pool.fetchval("SELECT count(*) FROM stripe_payments") == 0


async def test_a_payment_that_waited_for_its_customer_is_credited_after_the_binding(
    prepaid: Command, storefront: Storefront, stand_in: SimulatorProcess
) -> None:
    await create_organization(storefront.pool, "acme")
    shop = replace(storefront, terms=replace(storefront.terms, credit_customer_payments=True))
    customer = await shop.client.v1.customers.create_async({"name": "Acme"})
    await shop.charge(2500, customer=customer.id)
    await shop.deliver_new()
    assert await balance(shop.pool) == 0
    bound = await prepaid("bind", "acme", customer.id, *REASON, STRIPE_API_BASE=stand_in.url)
    assert bound.code == 0, bound
    await Drainer(shop.pool, shop.applier, make_token=uuid4).drain()
    assert await balance(shop.pool) == 25
