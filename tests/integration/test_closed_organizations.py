"""A closed organization: nothing is bought, used or credited, and everything can be read."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from shared.durations import Duration
from shared.events.service import Applier
from shared.ledger.verification import store as verification
from shared.organizations import store
from shared.payments.model import SaleTerms
from shared.replay.service import Replayer
from tests.fixtures.api import ApiClient
from tests.fixtures.ledger import grant, post
from tests.fixtures.product import (
    balance,
    balances,
    create_organization,
    event_row,
    event_states,
    payment,
    receive,
    transactions,
)
from tests.fixtures.recharging import Shop
from tests.fixtures.reversals import changed
from tests.integration.events import apply, open_purchase, session
from worker.drainer import Drainer

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization
    from shared.payments.lookup import StripeLookup
    from tests.fixtures.stripe_answers import StripeAnswers

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


async def reopen(pool: Pool, organization: Organization) -> None:
    async with pool.acquire() as connection:
        assert await store.set_closed(connection, organization.id, closed=False)


async def payment_problems(pool: Pool) -> list[str]:
    """Return what the invariant `payments_credited` finds."""
    ids = [row["id"] for row in await pool.fetch("SELECT id FROM organizations")]
    async with pool.acquire() as connection:
        found = await verification.payment_problems(connection, ids, 10)
    return [row["problem"] for row in found]


async def bound(pool: Pool) -> list[str]:
    rows = await pool.fetch("SELECT payment_intent_id FROM stripe_payments ORDER BY 1")
    return [row["payment_intent_id"] for row in rows]


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


async def test_a_payment_that_a_closed_organization_never_got_is_not_bound_to_it(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    """The others of its batch are credited, and the ledger has nothing to complain of."""
    await create_organization(pool, "globex")
    await close(pool, organization)
    await apply(pool, drainer, payment("1"), payment("2", organization="globex"), payment("3"))
    assert await event_states(pool) == {"evt_1": "dead", "evt_2": "applied", "evt_3": "dead"}
    assert await balances(pool) == {"acme": 0, "globex": 10}
    assert await bound(pool) == ["pi_2"]
    assert await payment_problems(pool) == []


async def test_what_an_older_release_bound_to_a_closed_organization_is_unbound_by_a_replay(
    pool: Pool, organization: Organization, drainer: Drainer, replayer: Replayer
) -> None:
    await close(pool, organization)
    await pool.execute(
        "INSERT INTO stripe_payments (payment_intent_id, organization_id, amount_minor, currency,"
        " credits) VALUES ('pi_1', $1, 1000, 'usd', 10)",
        organization.id,
    )
    await apply(pool, drainer, payment("1"))
    assert await bound(pool) == []
    await reopen(pool, organization)
    await replayer.replay(["evt_1"], actor="test", reason=None)
    assert await balance(pool) == 10
    assert await payment_problems(pool) == []


async def test_a_refund_of_what_a_closed_organization_never_got_takes_nothing_from_it(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    """Whether its event comes while the organization is closed, or after it was reopened."""
    await post(pool, grant(organization, 20))
    await close(pool, organization)
    stripe_answers.pay()
    await apply(pool, asking, payment("1"))
    stripe_answers.refund(1000)
    await apply(pool, asking, changed("refund.created"))
    await reopen(pool, organization)
    await apply(pool, asking, changed("refund.updated"))
    assert await balance(pool) == 20
    assert await payment_problems(pool) == []


async def test_a_payment_that_is_replayed_after_reopening_brings_what_its_refund_left(
    pool: Pool,
    organization: Organization,
    asking: Drainer,
    lookup: StripeLookup,
    stripe_answers: StripeAnswers,
) -> None:
    """The refund waits for the payment: its event came while the organization was closed."""
    await close(pool, organization)
    stripe_answers.pay()
    await apply(pool, asking, payment("1"))
    stripe_answers.refund(400)
    await apply(pool, asking, changed(event_id="refund_1"), changed(event_id="refund_2"))
    waiting = await event_row(pool, "evt_refund_1")
    assert (waiting["state"], waiting["waits_for"]) == ("ignored", "pi_1")
    await reopen(pool, organization)
    replayer = Replayer(pool, Applier(pool, SaleTerms(Decimal(1)), lookup=lookup), uuid4)
    await replayer.replay(["evt_1"], actor="test", reason=None)
    await asking.drain()
    assert await balance(pool) == 6


async def test_a_purchase_that_is_replayed_after_reopening_has_the_terms_of_its_sale(
    pool: Pool, organization: Organization
) -> None:
    terms = SaleTerms(Decimal(1), purchase_expires=Duration(time=timedelta(days=365)))
    applier = Applier(pool, terms)
    drainer = Drainer(pool, applier, make_token=uuid4)
    purchase_id = await open_purchase(pool, organization, "1")
    await pool.execute("UPDATE purchases SET credits = 12 WHERE id = $1", purchase_id)
    await close(pool, organization)
    await apply(pool, drainer, session("1"))
    await reopen(pool, organization)
    now = datetime.now(UTC) + timedelta(days=3)
    later = replace(applier, now=lambda: now)
    await Replayer(pool, later, uuid4).replay(["evt_cs_1_completed"], actor="test", reason=None)
    (row,) = await transactions(pool)
    assert (row["amount"], row["description"]) == (12, "Credit purchase")
    expires_at = await pool.fetchval("SELECT expires_at FROM credit_grants")
    assert expires_at == now + timedelta(days=365)
    assert await pool.fetchval("SELECT state FROM purchases") == "paid"
