"""Buying credits over HTTP: checkout, portal, top-up, and what waits for the customer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest import mock

import aiohttp
import pytest

from shared.config import load
from shared.organizations.model import Organization
from shared.payments import checkout
from shared.payments.payment_intents import ChargeRefused
from shared.recharge.rules import TOP_UP_DECLINES_MAX
from tests.fixtures.api import ApiClient, serve_api
from tests.fixtures.product import Answer, environment
from tests.fixtures.recharging import Shop

if TYPE_CHECKING:
    from shared.db.pool import Pool

SETTINGS = "/v1/organizations/acme/billing"
BILLING = "/v1/billing/acme"
URLS = {"successUrl": "https://app.example.com/ok", "cancelUrl": "https://app.example.com/no"}
RULE = {
    "autoRechargeEnabled": True,
    "consentedBy": "jo@acme.example",
    "autoRechargeThresholdDecimillicents": 100_000_000,
    "autoRechargeAmountDecimillicents": 250_000_000,
}


async def test_a_checkout_is_opened_at_the_price_of_the_server_once_for_a_key(
    paying_client: ApiClient, shop: Shop
) -> None:
    asked = {"organizationId": "acme", "amount": 25, **URLS}
    path = "/v1/billing/checkout"
    opened = await paying_client.post(path, asked, idempotency_key="buy-1")
    assert opened.status == 200, opened.json
    again = await paying_client.post(path, asked, idempotency_key="buy-1")
    assert again.json == opened.json
    session = await shop.client.v1.checkout.sessions.retrieve_async(opened.json["id"])
    assert (session.amount_total, session.currency) == (2500, "usd")
    assert session.client_reference_id == str(shop.owner.id)
    purchases = await shop.pool.fetch("SELECT state, amount_minor FROM purchases")
    assert [tuple(row) for row in purchases] == [("open", 2500)]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"amount": -5}, "amount"), ({"amount": 0}, "amount"), ({"amount": 0.99}, "amount"),
        ({"amount": 10_001}, "amount"), ({"amount": 25.001}, "amount"),
        ({"amount": "25"}, "amount"),
        ({"successUrl": "javascript:alert(1)"}, "successUrl"), ({"cancelUrl": "/x"}, "cancelUrl"),
        ({"cancelUrl": "https://"}, "cancelUrl"), ({"cancelUrl": "https://x:y/"}, "cancelUrl"),
        ({"successUrl": "https://x/" + "a" * 2001}, "successUrl"), ({"price": 1}, "price"),
        ({"organizationId": None}, "organizationId"),
    ],
)  # fmt: skip
async def test_a_wrong_purchase_is_named(
    api_client: ApiClient, organization: Organization, change: dict[str, Any], field: str
) -> None:
    asked = {"organizationId": "acme", "amount": 25, **URLS} | change
    answer = await api_client.post("/v1/billing/checkout", asked)
    assert (answer.status, answer.json["errors"][0]["loc"]) == (422, ["body", field])
    if field == "amount":
        top_up = await api_client.post(f"{BILLING}/top-up", {"amount": asked["amount"]})
        assert (top_up.status, top_up.json["errors"][0]["loc"]) == (422, ["body", "amount"])


async def test_a_stripe_that_is_away_is_a_502_and_the_same_key_tries_again(
    paying_client: ApiClient, shop: Shop
) -> None:
    asked = {"organizationId": "acme", "amount": 25, **URLS}
    await shop.sim("faults", method="POST", path="/v1/checkout/sessions", fault="error_500")
    failed = await paying_client.post("/v1/billing/checkout", asked, idempotency_key="buy-1")
    assert (failed.status, failed.json["type"]) == (502, "stripe_error")
    opened = await paying_client.post("/v1/billing/checkout", asked, idempotency_key="buy-1")
    assert opened.status == 200, opened.json
    assert await shop.pool.fetchval("SELECT count(*) FROM purchases") == 1


async def test_the_portal_and_a_card_setup_are_opened_for_a_customer_of_ones_own(
    paying_client: ApiClient, shop: Shop
) -> None:
    portal = {"organizationId": "acme", "returnUrl": "https://app.example.com/back"}
    opened = await paying_client.post("/v1/billing/portal", portal)
    assert opened.json["url"].startswith(paying_client.api.settings.stripe_api_base)
    customer = (await paying_client.get(SETTINGS)).json["stripeCustomerId"]
    assert customer.startswith("cus_")
    page = await paying_client.post(f"{BILLING}/payment-methods/setup", URLS)
    session = await shop.client.v1.checkout.sessions.retrieve_async(page.json["id"])
    assert (session.mode, session.customer) == ("setup", customer)
    assert len((await shop.client.v1.customers.list_async({"limit": 100})).data) >= 1


async def test_an_open_checkout_is_paid_without_a_browser_once(
    paying_client: ApiClient, shop: Shop
) -> None:
    path = f"{BILLING}/dev/complete-local"
    none = await paying_client.post(path)
    assert (none.status, none.json["type"]) == (404, "not_found_error")
    opened = await paying_client.post(
        "/v1/billing/checkout", {"organizationId": "acme", "amount": 25, **URLS}
    )
    done = await paying_client.post(path, {"checkoutId": opened.json["id"]})
    assert done.status == 200, done.json
    assert (done.json["amount"], done.json["balanceAfter"]) == (25, 25)
    assert (await paying_client.post(path)).status == 404
    session = await shop.client.v1.checkout.sessions.retrieve_async(opened.json["id"])
    assert session.status == "expired"
    assert await shop.captures() == [2500]
    assert (await paying_client.get(SETTINGS)).json["stripeCustomerId"].startswith("cus_")


async def test_a_checkout_whose_payment_has_not_succeeded_is_a_502_and_credits_nothing(
    paying_client: ApiClient, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await paying_client.post(
        "/v1/billing/checkout", {"organizationId": "acme", "amount": 25, **URLS}
    )
    monkeypatch.setattr(checkout, "TEST_CARD", "pm_card_authenticationRequired")
    failed = await paying_client.post(f"{BILLING}/dev/complete-local")
    assert (failed.status, failed.json["type"]) == (502, "stripe_error")
    assert "requires_action" in failed.json["detail"]
    assert (await paying_client.get(f"{BILLING}/credits")).json["balance"] == 0


async def test_a_grant_that_was_paid_for_is_not_voided_so_that_a_refund_takes_it_once(
    paying_client: ApiClient, shop: Shop
) -> None:
    asked = {"organizationId": "acme", "amount": 25, **URLS}
    await paying_client.post("/v1/billing/checkout", asked)
    await paying_client.post(f"{BILLING}/dev/complete-local")
    await paying_client.post(f"{BILLING}/grants", {"amount": 10})
    given, bought = (await paying_client.get(f"{BILLING}/grants")).json["data"]
    refused = await paying_client.post(f"{BILLING}/grants/{bought['id']}/void")
    assert (refused.status, refused.json["type"]) == (409, "conflict_error")
    assert "Refund its payment at Stripe" in refused.json["detail"]
    assert (await paying_client.get(f"{BILLING}/grants/{bought['id']}")).json == bought
    assert (await paying_client.post(f"{BILLING}/grants/{given['id']}/void")).status == 200
    assert (await paying_client.get(f"{BILLING}/credits")).json["balance"] == 25


async def test_the_way_without_a_browser_is_shut_on_a_live_key(
    database_url: str,
    redis_url: str,
    pool: Pool,
    client: aiohttp.ClientSession,
    organization: Organization,
) -> None:
    live = environment(database_url, redis_url) | {
        "STRIPE_API_KEY": "sk_live_51H7gV2eZvKYlo2C",
        "STRIPE_WEBHOOK_SECRETS": "whsec_51H7gV2eZvKYlo2C",
        "PREPAID_PUBLIC_URL": "https://credits.test",
    }
    async with serve_api(load(live), pool, client) as bare:
        served = await bare.make_key()
        answer = await served.post(f"{BILLING}/dev/complete-local")
    assert (answer.status, answer.json["type"]) == (403, "permission_error")


async def top_up(client: ApiClient, amount: float = 20, key: str | None = None) -> Answer:
    headers = {} if key is None else {"idempotency_key": key}
    return await client.post(f"{BILLING}/top-up", {"amount": amount}, **headers)


async def test_a_top_up_asks_stripe_for_a_card_that_a_payment_has_just_saved(
    paying_client: ApiClient, shop: Shop
) -> None:
    await paying_client.post(
        "/v1/billing/checkout", {"organizationId": "acme", "amount": 25, **URLS}
    )
    await paying_client.post(f"{BILLING}/dev/complete-local")
    bought = await top_up(paying_client)
    assert (bought.status, bought.json["state"]) == (200, "succeeded"), bought.json


async def test_a_top_up_is_a_502_where_stripe_does_not_describe_the_card(
    paying_client: ApiClient, shop: Shop
) -> None:
    await shop.save_card()
    await shop.pool.execute("UPDATE payment_methods SET as_of = to_timestamp(0)")
    path = "/v1/payment_methods/*"
    await shop.sim("faults", method="GET", path=path, fault="forbidden_403", times=9)
    refused = await top_up(paying_client)
    assert (refused.status, refused.json["type"]) == (502, "stripe_error"), refused.json
    assert await shop.attempts() == []


async def test_a_top_up_charges_the_card_once_and_is_a_purchase(
    paying_client: ApiClient, shop: Shop
) -> None:
    await shop.save_card()
    first = await top_up(paying_client, key="t")
    assert first.status == 200, first.json
    assert (first.json["state"], first.json["trigger"], first.json["amount"]) == (
        "succeeded", "top_up", 20,
    )  # fmt: skip
    again = await top_up(paying_client, key="t")
    assert (again.json, again.headers["Idempotent-Replayed"]) == (first.json, "true")
    assert await shop.captures() == [2000]
    (row,) = (await paying_client.get(f"{BILLING}/credits/history")).json["data"]
    assert (row["entryType"], row["reason"], row["amount"]) == ("purchase", "Top-up", 20)
    (listed,) = (await paying_client.get(f"{BILLING}/auto-recharge/attempts")).json["data"]
    assert listed == first.json


async def test_without_a_card_the_customer_is_told_to_add_one(
    paying_client: ApiClient, shop: Shop
) -> None:
    answer = await top_up(paying_client)
    assert (answer.status, answer.json["type"]) == (402, "payment_required_error")
    assert answer.json["nextAction"] == {"type": "add_payment_method", "url": None}
    await shop.save_card()
    assert (await top_up(paying_client)).status == 200


async def test_a_declined_top_up_says_so_and_stops_no_rule(
    paying_client: ApiClient, shop: Shop
) -> None:
    await shop.save_card("pm_card_chargeCustomerFail")
    await paying_client.call("PATCH", SETTINGS, RULE)
    answer = await top_up(paying_client, key="d")
    assert (answer.status, answer.json["nextAction"]["type"]) == (402, "update_payment_method")
    assert answer.json["attempt"]["state"] == "failed"
    again = await top_up(paying_client, key="d")
    assert (again.status, again.json) == (402, answer.json)
    settings = await shop.settings()
    assert (settings.state, settings.declines_in_row) == ("active", 0)
    assert await shop.captures() == []


async def test_a_card_that_is_declined_again_and_again_is_left_alone_until_there_is_another(
    paying_client: ApiClient, shop: Shop
) -> None:
    await shop.save_card("pm_card_chargeCustomerFail")
    for _ in range(TOP_UP_DECLINES_MAX):
        assert (await top_up(paying_client)).json["attempt"]["state"] == "failed"
    answer = await top_up(paying_client)
    assert (answer.status, answer.json["nextAction"]["type"]) == (402, "update_payment_method")
    assert "attempt" not in answer.json
    assert len(await shop.attempts()) == TOP_UP_DECLINES_MAX
    await shop.save_card()
    await shop.pool.execute(
        "UPDATE payment_methods SET detached_at = now() WHERE id = $1",
        (await shop.attempt())["payment_method_id"],
    )
    assert (await top_up(paying_client)).status == 200


async def test_a_top_up_that_the_bank_asks_about_has_a_link_and_is_credited_once_paid(
    paying_client: ApiClient, shop: Shop
) -> None:
    await shop.save_card("pm_card_authenticationRequired")
    first = await top_up(paying_client, key="a")
    assert (first.status, first.json["nextAction"]["type"]) == (402, "authenticate")
    answer = await top_up(paying_client, key="a")  # asked again: the same attempt, a fresh link
    assert answer.json["attempt"] == first.json["attempt"]
    url = answer.json["nextAction"]["url"]
    assert url.startswith("https://credits.test/pay/")
    old = first.json["nextAction"]["url"].removeprefix("https://credits.test")
    assert (await paying_client.get(old)).status == 404
    page = url.removeprefix("https://credits.test")
    assert (await paying_client.get(page)).status == 200
    (waits,) = (await paying_client.get(f"{BILLING}/auto-recharge/requires-action")).json["data"]
    assert waits["id"] == answer.json["attempt"]["id"]
    assert waits["clientSecret"].startswith(waits["paymentIntentId"])
    read = await paying_client.make_key("read")
    (shown,) = (await read.get(f"{BILLING}/auto-recharge/requires-action")).json["data"]
    assert shown == waits | {"clientSecret": None}
    intent = waits["paymentIntentId"]
    await shop.sim(f"payment_intents/{intent}/authenticate", passed=True)
    assert (await paying_client.get(f"{page}/done")).status == 200
    await shop.charger.work()
    assert (await shop.attempt())["state"] == "succeeded"
    assert (await paying_client.get(f"{BILLING}/credits")).json["balance"] == 20
    assert (await paying_client.get(f"{BILLING}/auto-recharge/requires-action")).json["data"] == []
    paid = await top_up(paying_client, key="a")
    assert (paid.status, paid.json["state"]) == (200, "succeeded")
    assert await shop.captures() == [2000]


async def test_another_top_up_replaces_one_that_its_customer_left_at_the_bank(
    paying_client: ApiClient, shop: Shop
) -> None:
    """M12."""
    await shop.save_card("pm_card_authenticationRequired")
    assert (await top_up(paying_client, key="a")).status == 402
    await shop.pool.execute("UPDATE payment_methods SET detached_at = now()")
    await shop.save_card()
    assert (await top_up(paying_client, key="b")).status == 200
    left = await top_up(paying_client, key="a")
    assert (left.status, left.json["attempt"]["state"]) == (402, "canceled")
    assert await shop.captures() == [2000]


async def test_a_retry_of_a_replaced_top_up_leaves_its_successor_alone(
    paying_client: ApiClient, shop: Shop
) -> None:
    await shop.save_card("pm_card_authenticationRequired")
    for key in ("a", "b"):
        assert (await top_up(paying_client, key=key)).status == 402
    left = await top_up(paying_client, key="a")
    assert (left.status, left.json["attempt"]["state"]) == (402, "canceled")
    waits = await top_up(paying_client, key="b")
    assert waits.json["nextAction"]["type"] == "authenticate"


async def test_a_top_up_is_a_conflict_while_a_recharge_waits_for_its_customer(
    paying_client: ApiClient, shop: Shop
) -> None:
    await shop.open("pm_card_authenticationRequired")
    await shop.work()
    answer = await top_up(paying_client)
    assert (answer.status, answer.json["type"]) == (409, "conflict_error")
    assert "requires-action" in answer.json["detail"]


@pytest.mark.parametrize("path", ["/v1/payment_intents", "/v1/payment_intents/*/confirm"])
@pytest.mark.parametrize("fault", ["unauthorized_401", "forbidden_403", "bad_parameter_400"])
async def test_a_top_up_that_stripe_refuses_for_our_own_fault_is_canceled_and_its_key_tries_again(
    paying_client: ApiClient, shop: Shop, fault: str, path: str
) -> None:
    await shop.save_card()
    await shop.sim("faults", method="POST", path=path, fault=fault)
    answer = await top_up(paying_client, key="a")
    assert (answer.status, answer.json["type"]) == (502, "stripe_error")
    assert (await shop.attempt())["state"] == "canceled"
    again = [await top_up(paying_client, key="a") for _ in range(2)]
    assert [answer.status for answer in again] == [200, 200]
    assert again[0].json == again[1].json
    assert await shop.captures() == [2000]


@pytest.mark.parametrize("fault", ["answer_lost", "cut_mid_body", "error_500"])
async def test_a_top_up_whose_answer_is_lost_is_settled_later_and_charged_once(
    paying_client: ApiClient, shop: Shop, fault: str
) -> None:
    await shop.save_card()
    confirm = "/v1/payment_intents/*/confirm"
    await shop.sim("faults", method="POST", path=confirm, fault=fault)
    answer = await top_up(paying_client, key="t")
    assert (answer.status, answer.json["state"]) == (200, "unknown"), answer.json
    await shop.work_until_settled()
    again = await top_up(paying_client, key="t")
    assert (again.status, again.json["state"]) == (200, "succeeded")
    assert (await top_up(paying_client, key="t")).headers["Idempotent-Replayed"] == "true"
    assert await shop.captures() == [2000]
    assert (await paying_client.get(f"{BILLING}/credits")).json["balance"] == 20


async def test_a_charge_that_stripe_refuses_for_want_of_a_permission_is_no_bad_card(
    paying_client: ApiClient, shop: Shop
) -> None:
    await shop.save_card()
    charges = paying_client.api.charger.gateway

    async def refuse(*_asked: Any, **_named: Any) -> ChargeRefused:
        return ChargeRefused("This key may not create PaymentIntents.", None)

    with mock.patch.object(type(charges), "create", refuse):
        answer = await top_up(paying_client)
    assert (answer.status, answer.json["type"]) == (502, "stripe_error")
    assert "may not create" in answer.json["detail"]


async def test_who_tops_up_is_written_down(paying_client: ApiClient, shop: Shop) -> None:
    await shop.save_card()
    bought = await top_up(paying_client)
    row = await shop.pool.fetchrow("SELECT * FROM audit_log WHERE action = 'recharge.top_up'")
    assert row is not None
    assert (row["actor"], row["subject"]) == ("key:admin key", bought.json["id"])
