"""A closed organization: nothing is bought, used or credited, and everything can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.organizations import store
from tests.fixtures.api import ApiClient
from tests.fixtures.ledger import grant, post
from tests.fixtures.product import event_row, payment, receive
from tests.fixtures.recharging import Shop

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization
    from worker.drainer import Drainer

URLS = {"successUrl": "https://app.example.com/ok", "cancelUrl": "https://app.example.com/no"}
BILLING = "/v1/billing/acme"
RULE = {
    "autoRechargeEnabled": True,
    "consentedBy": "jo@acme.example",
    "autoRechargeThresholdDecimillicents": 100_000_000,
    "autoRechargeAmountDecimillicents": 250_000_000,
}
WRITES = {
    "a checkout": (
        "POST",
        "/v1/billing/checkout",
        {"organizationId": "acme", "amount": 25, **URLS},
    ),
    "a card": ("POST", f"{BILLING}/payment-methods/setup", URLS),
    "a top-up": ("POST", f"{BILLING}/top-up", {"amount": 25}),
    "a test payment": ("POST", f"{BILLING}/dev/complete-local", {}),
    "auto-recharge": ("PATCH", "/v1/organizations/acme/billing", RULE),
    "a debit": ("POST", "/api/credit-transactions", {"organizationId": "acme", "amount": -1}),
    "a hold": ("POST", f"{BILLING}/holds", {"amount": 1}),
    "a grant": ("POST", f"{BILLING}/grants", {"amount": 1}),
}


async def close(pool: Pool, organization: Organization) -> None:
    async with pool.acquire() as connection:
        assert await store.set_closed(connection, organization.id, closed=True)


async def test_a_closed_organization_is_read_and_nothing_else(
    paying_client: ApiClient, shop: Shop
) -> None:
    await shop.save_card()
    await post(shop.pool, grant(shop.owner, 12))
    await close(shop.pool, shop.owner)
    for what, (method, path, body) in WRITES.items():
        answer = await paying_client.call(method, path, body)
        assert (what, answer.status, answer.json.get("type")) == (what, 409, "conflict_error")
        assert answer.json["detail"].startswith("The organization is closed:")
    read = await paying_client.get(f"{BILLING}/credits")
    assert read.status == 200
    history = await paying_client.get(f"{BILLING}/credits/history")
    assert history.json["total"] == 1


@pytest.mark.usefixtures("organization")
async def test_a_payment_of_a_closed_organization_is_dead_and_says_what_to_do(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await close(pool, organization)
    await receive(pool, payment("1"))
    await drainer.drain()
    row = await event_row(pool, "evt_1")
    assert (row["state"], row["error_class"]) == ("dead", "PostingRefusedError")
    assert "is closed. Reopen it (prepaid orgs reopen) and replay this event" in row["reason"]
