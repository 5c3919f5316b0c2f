"""M15: a Stripe customer that is gone is replaced; a checkout that fails leaves nothing open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.fixtures.api import ApiClient
from tests.fixtures.product import Answer
from tests.fixtures.recharging import Shop

if TYPE_CHECKING:
    import asyncpg

URLS = {"successUrl": "https://app.example.com/ok", "cancelUrl": "https://app.example.com/no"}
CHECKOUT = ("/v1/billing/checkout", {"organizationId": "acme", "amount": 25, **URLS})
PORTAL = (
    "/v1/billing/portal",
    {"organizationId": "acme", "returnUrl": "https://app.example.com/back"},
)
SETUP = ("/v1/billing/acme/payment-methods/setup", URLS)
COMPLETE: tuple[str, dict[str, Any]] = ("/v1/billing/acme/dev/complete-local", {})
GONE = "cus_gone"


async def has_customer(shop: Shop, customer_id: str) -> None:
    """Have a Stripe customer on file, with a card."""
    await shop.pool.execute(
        "UPDATE organizations SET stripe_customer_id = $2 WHERE id = $1", shop.owner.id, customer_id
    )
    await shop.pool.execute(
        "INSERT INTO payment_methods (id, organization_id, customer_id, type, fingerprint,"
        " is_default, as_of) VALUES ($1, $2, $3, 'card', 'fp', TRUE, now())",
        f"pm_{customer_id}", shop.owner.id, customer_id,
    )  # fmt: skip


async def deleted_customer(shop: Shop) -> str:
    customer = await shop.client.v1.customers.create_async({"name": "Acme"})
    await shop.client.v1.customers.delete_async(customer.id)
    return customer.id


async def customer_of(shop: Shop) -> str:
    found: str = await shop.pool.fetchval(
        "SELECT stripe_customer_id FROM organizations WHERE id = $1", shop.owner.id
    )
    return found


async def purchases(shop: Shop) -> list[asyncpg.Record]:
    return await shop.pool.fetch("SELECT * FROM purchases ORDER BY created_at")


@pytest.mark.parametrize("request_", [CHECKOUT, PORTAL, SETUP], ids=["checkout", "portal", "setup"])
@pytest.mark.parametrize("how", ["missing", "deleted"])
async def test_a_customer_that_is_gone_at_stripe_is_made_anew(
    paying_client: ApiClient, shop: Shop, request_: tuple[str, Any], how: str
) -> None:
    """M15."""
    gone = GONE if how == "missing" else await deleted_customer(shop)
    await has_customer(shop, gone)
    path, body = request_
    opened = await paying_client.post(path, body)
    assert opened.status == 200, opened.json
    customer = await customer_of(shop)
    assert customer.startswith("cus_")
    assert customer != gone
    assert (await shop.client.v1.customers.retrieve_async(customer)).id == customer
    assert await shop.pool.fetchval("SELECT detached_at IS NOT NULL FROM payment_methods")
    again = await paying_client.post(path, body)
    assert again.status == 200
    assert await customer_of(shop) == customer


async def test_complete_local_goes_on_with_a_new_customer(
    paying_client: ApiClient, shop: Shop
) -> None:
    assert (await paying_client.post(*CHECKOUT)).status == 200
    await has_customer(shop, GONE)
    paid = await paying_client.post(*COMPLETE)
    assert (paid.status, paid.json.get("amount")) == (200, 25), paid.json
    assert await customer_of(shop) != GONE


async def test_a_top_up_on_a_customer_that_is_gone_asks_for_a_card(
    paying_client: ApiClient, shop: Shop
) -> None:
    await has_customer(shop, GONE)
    answer = await paying_client.post("/v1/billing/acme/top-up", {"amount": 20})
    assert answer.status == 402, answer.json
    assert answer.json["nextAction"]["type"] == "add_payment_method"
    assert (await paying_client.post(*SETUP)).status == 200
    assert await customer_of(shop) != GONE


async def test_a_checkout_for_a_gone_customer_leaves_one_open_purchase(
    paying_client: ApiClient, shop: Shop
) -> None:
    """M15."""
    await has_customer(shop, GONE)
    opened = await paying_client.post(*CHECKOUT)
    assert opened.status == 200, opened.json
    (purchase,) = await purchases(shop)
    assert (purchase["state"], purchase["checkout_session_id"]) == ("open", opened.json.get("id"))


async def test_a_checkout_that_stripe_refuses_leaves_no_open_purchase(
    paying_client: ApiClient, shop: Shop
) -> None:
    await shop.pool.execute("UPDATE organizations SET currency = 'zzz'")
    paying_client.api.organizations.forget(shop.owner)
    refused = await paying_client.post(*CHECKOUT, idempotency_key="buy-1")
    assert (refused.status, refused.json["type"]) == (502, "stripe_error")
    assert [row["state"] for row in await purchases(shop)] == ["failed"]
    await shop.pool.execute("UPDATE organizations SET currency = 'usd'")
    await shop.pool.execute("UPDATE purchases SET currency = 'usd'")
    paying_client.api.organizations.forget(shop.owner)
    opened = await paying_client.post(*CHECKOUT, idempotency_key="buy-1")
    assert opened.status == 200, opened.json
    assert [row["state"] for row in await purchases(shop)] == ["open"]


@pytest.mark.parametrize("fault", ["answer_lost", "error_500_after", "error_500"])
async def test_a_lost_answer_keeps_the_purchase_for_the_next_try(
    paying_client: ApiClient, shop: Shop, fault: str
) -> None:
    await shop.sim("faults", method="POST", path="/v1/checkout/sessions", fault=fault)
    failed = await paying_client.post(*CHECKOUT, idempotency_key="buy-1")
    assert failed.status == 502
    assert [row["state"] for row in await purchases(shop)] == ["open"]
    opened = await paying_client.post(*CHECKOUT, idempotency_key="buy-1")
    assert [row["checkout_session_id"] for row in await purchases(shop)] == [opened.json["id"]]


async def test_what_a_checkout_sells_is_fixed_when_it_is_opened(
    paying_client: ApiClient, shop: Shop
) -> None:
    await paying_client.post(*CHECKOUT)
    (purchase,) = await purchases(shop)
    assert (purchase["credits"], purchase["credits_per_unit"]) == (25, 1)
    assert purchase["amount_minor"] == 2500


@pytest.mark.parametrize("request_", [CHECKOUT, PORTAL, SETUP], ids=["checkout", "portal", "setup"])
async def test_a_connected_accounts_customer_is_asked_about_in_that_account(
    paying_client: ApiClient, shop: Shop, request_: tuple[str, Any]
) -> None:
    await shop.pool.execute("UPDATE organizations SET stripe_account = 'acct_connected'")
    await has_customer(shop, GONE)
    before = len(await requests(shop))
    opened: Answer = await paying_client.post(*request_)
    assert opened.status == 200, opened.json
    made = (await requests(shop))[before:]
    assert len(made) >= 4  # refused, asked for, made anew, opened
    assert {request["stripe_account"] for request in made} == {"acct_connected"}


async def requests(shop: Shop) -> list[dict[str, Any]]:
    async with shop.session.get("/_sim/requests") as answer:
        found: list[dict[str, Any]] = (await answer.json())["data"]
    return found
