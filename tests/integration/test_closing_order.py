"""Closing against what runs at the same moment, and against what Stripe goes on charging."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from shared.closing import service as closing
from shared.errors import OrganizationClosedError
from shared.ids import new_id
from shared.ledger.model import TransactionType
from shared.ledger.verification.service import verify
from shared.organizations import store
from shared.payments.checkout import open_checkout
from shared.payments.model import PurchasePrice
from shared.recharge import service as recharge
from tests.fixtures.commands import Command, assert_refused
from tests.fixtures.ledger import grant, hold, make_due, post, posting
from tests.fixtures.product import until
from tests.fixtures.storefront import Storefront

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

REASON = ("--reason", "the contract ended")
WAITING = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
)
SUBSCRIPTION = (
    "INSERT INTO subscriptions (id, organization_id, status, as_of) VALUES ('sub_1', $1, $2, now())"
)
CHECKOUT = (
    "INSERT INTO purchases (id, organization_id, amount_minor, currency)"
    " VALUES ($1, $2, 2500, 'usd')"
)


async def test_a_checkout_waits_for_a_close_and_is_then_refused(
    storefront: Storefront, organization: Organization
) -> None:
    pool = storefront.pool
    async with pool.acquire() as holder:
        transaction = holder.transaction()
        await transaction.start()
        await recharge.lock_account(holder, organization.id)
        opening = asyncio.create_task(
            open_checkout(
                pool,
                storefront.client,
                organization,
                purchase_id=new_id(),
                price=PurchasePrice(2500, "usd", Decimal(25), Decimal(1)),
                success_url="https://app.example.com/ok",
                cancel_url="https://app.example.com/no",
            )
        )
        await until(lambda: pool.fetchval(WAITING))
        await store.set_closed(holder, organization.id, closed=True)
        await transaction.commit()
    with pytest.raises(OrganizationClosedError):
        await opening
    assert await pool.fetchval("SELECT count(*) FROM purchases") == 0


async def test_an_open_checkout_prevents_a_close_unless_it_is_forced(
    prepaid: Command, pool: Pool, organization: Organization
) -> None:
    await pool.execute(CHECKOUT, new_id(), organization.id)
    assert_refused(await prepaid("orgs", "close", "acme", *REASON), "1 open checkouts")
    closed = (await prepaid("orgs", "close", "acme", "--force", *REASON, "--json")).json
    assert (closed["changed"], closed["openCheckouts"]) == (True, 1)


@pytest.mark.parametrize(
    ("status", "charged"),
    [("active", True), ("trialing", True), ("past_due", True), ("canceled", False)],
)
async def test_a_subscription_that_is_charged_prevents_a_close_unless_it_is_forced(
    prepaid: Command, pool: Pool, organization: Organization, status: str, *, charged: bool
) -> None:
    await pool.execute(SUBSCRIPTION, organization.id, status)
    if charged:
        refused = await prepaid("orgs", "close", "acme", *REASON)
        assert_refused(refused, "1 subscriptions", "canceled at Stripe")
    force = ("--force",) if charged else ()
    closed = (await prepaid("orgs", "close", "acme", *force, *REASON, "--json")).json
    assert (closed["changed"], closed["subscriptions"]) == (True, int(charged))


async def test_a_forced_close_releases_each_active_hold_and_changes_no_other(
    prepaid: Command, pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 10))
    captured, expired, *active = [await hold(pool, organization, n) for n in (1, 2, 3, 3)]
    await post(pool, posting(organization, TransactionType.HOLD_CAPTURE, -1, hold_id=captured.id))
    await make_due(pool, "holds", expired.id)
    closed = (await prepaid("orgs", "close", "acme", "--force", *REASON, "--json")).json
    assert (closed["holdsReleased"], closed["held"], closed["balance"]) == (2, 0, 9)
    states = {row["id"]: row["status"] for row in await pool.fetch("SELECT id, status FROM holds")}
    assert states == {
        captured.id: "captured",
        expired.id: "expired",
        **{hold.id: "released" for hold in active},
    }
    async with pool.acquire() as connection:
        assert (await verify(connection))["problems"] == []


async def test_a_reopening_that_began_before_the_close_leaves_books_that_verify(
    pool: Pool, organization: Organization
) -> None:
    """The audit log's time is that of the transaction's begin; the account's lock orders them."""
    async with pool.acquire() as first, pool.acquire() as second:
        async with first.transaction():
            assert await first.fetchval("SELECT now()")
            async with second.transaction():
                await closing.close(second, organization, actor="cli:a", reason="ended")
            assert await closing.reopen(first, organization, actor="cli:b", reason="again")
        assert (await verify(first))["problems"] == []
