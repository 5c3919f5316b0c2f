"""What nobody owns is ignored at once, and applied by itself when an organization has it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from shared.inbox import store as inbox
from shared.payments.customers import bind_customers
from tests.fixtures.product import LEASE, event_states, payment, receive, until
from tests.integration.test_event_cards import (
    CUSTOMER,
    apply,
    card,
    cards,
    customer,
    detached,
    recharging,
    state,
    tell,
)
from tests.integration.test_event_subscriptions import subscription

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.events.service import Applier
    from shared.organizations.model import Organization
    from worker.drainer import Drainer


def set_up(**changes: object) -> bytes:
    intent = {
        "id": "seti_1",
        "customer": CUSTOMER,
        "payment_method": "pm_1",
        "payment_method_types": ["card"],
        "mandate": "mandate_1",
        "metadata": {},
        **changes,
    }
    return tell("setup_intent.succeeded", intent)


def mandate(status: str = "inactive") -> bytes:
    told = {"id": "mandate_1", "payment_method": "pm_1", "status": status}
    return tell("mandate.updated", told)


async def claim_customer(pool: Pool, organization: Organization) -> None:
    """Give the organization its Stripe customer, as whoever learns of it does."""
    async with pool.acquire() as connection, connection.transaction():
        await bind_customers(connection, {organization.id: CUSTOMER})


async def waits_for(pool: Pool) -> list[str | None]:
    rows = await pool.fetch("SELECT state, waits_for FROM stripe_events ORDER BY id")
    return [row["waits_for"] if row["state"] == "ignored" else None for row in rows]


UNNAMED: dict[str, Any] = {"metadata": {}}


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        pytest.param(
            card(),
            "SELECT last4 = '4242' FROM payment_methods",
            id="payment_method.attached",
        ),
        pytest.param(
            card("updated"),
            "SELECT last4 = '4242' FROM payment_methods",
            id="payment_method.updated",
        ),
        pytest.param(
            card("automatically_updated"),
            "SELECT last4 = '4242' FROM payment_methods",
            id="payment_method.automatically_updated",
        ),
        pytest.param(
            detached(),
            "SELECT detached_at IS NOT NULL FROM payment_methods",
            id="payment_method.detached",
        ),
        pytest.param(
            set_up(),
            "SELECT mandate_id = 'mandate_1' FROM payment_methods",
            id="setup_intent.succeeded",
        ),
        pytest.param(
            customer("pm_1"),
            "SELECT is_default FROM payment_methods",
            id="customer.updated",
        ),
        pytest.param(
            customer(None),
            "SELECT count(*) = 0 FROM payment_methods",
            id="customer.updated without a default",
        ),
        pytest.param(
            tell("customer.deleted", {"id": CUSTOMER}),
            "SELECT stripe_customer_id IS NULL FROM organizations",
            id="customer.deleted",
        ),
        pytest.param(
            subscription("created", at=1, **UNNAMED),
            "SELECT status = 'active' FROM subscriptions",
            id="customer.subscription.created",
        ),
        pytest.param(
            subscription("updated", at=1, **UNNAMED),
            "SELECT status = 'active' FROM subscriptions",
            id="customer.subscription.updated",
        ),
        pytest.param(
            subscription("deleted", at=1, status="canceled", **UNNAMED),
            "SELECT status = 'canceled' FROM subscriptions",
            id="customer.subscription.deleted",
        ),
    ],
)
async def test_an_event_of_a_customer_that_nobody_has_is_applied_when_somebody_has_it(
    pool: Pool, organization: Organization, drainer: Drainer, body: bytes, wanted: str
) -> None:
    await apply(pool, drainer, body)
    assert await waits_for(pool) == [CUSTOMER]
    await claim_customer(pool, organization)
    await drainer.drain()
    assert list((await event_states(pool)).values()) == ["applied"]
    assert await pool.fetchval(wanted)


async def test_what_was_said_of_a_customer_before_somebody_had_it_counts_in_its_order(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await apply(pool, drainer, card(), customer("pm_1", at=100), customer(None, at=200))
    await claim_customer(pool, organization)
    await drainer.drain()
    assert [row["is_default"] for row in await cards(pool)] == [False]


@pytest.mark.parametrize(
    "note",
    [
        pytest.param([card()], id="attached"),
        pytest.param([detached()], id="detached"),
        pytest.param([set_up(mandate=None)], id="set up"),
        pytest.param([customer("pm_1")], id="made the default"),
        pytest.param(
            [
                payment(
                    "1",
                    customer=CUSTOMER,
                    payment_method="pm_1",
                    setup_future_usage="off_session",
                )
            ],
            id="kept by a payment",
        ),
    ],
)
async def test_a_mandate_of_a_payment_method_that_nobody_has_is_applied_when_it_is_on_file(
    pool: Pool, organization: Organization, drainer: Drainer, note: list[bytes]
) -> None:
    await apply(pool, drainer, mandate())
    assert await waits_for(pool) == ["pm_1"]
    await claim_customer(pool, organization)
    await apply(pool, drainer, *note)
    await drainer.drain()
    assert set((await event_states(pool)).values()) == {"applied"}
    assert [row["mandate_active"] for row in await cards(pool)] == [False]


async def test_a_detached_card_that_names_no_customer_waits_until_the_card_is_known(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    method = {"id": "pm_1", "type": "card", "customer": None}
    await apply(pool, drainer, tell("payment_method.detached", method, at=200))
    assert await waits_for(pool) == ["pm_1"]
    await claim_customer(pool, organization)
    await apply(pool, drainer, card())
    await drainer.drain()
    assert [row["detached_at"] is not None for row in await cards(pool)] == [True]


async def waiting_for_locks(pool: Pool, sessions: int) -> None:
    async def waiting() -> bool:
        count = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND wait_event_type = 'Lock'"
        )
        return bool(await pool.fetchval(count) == sessions)

    await until(waiting)


async def test_an_event_sees_the_owner_whose_transaction_is_still_open(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await receive(pool, card())
    async with pool.acquire() as connection, connection.transaction():
        await bind_customers(connection, {organization.id: CUSTOMER})
        draining = asyncio.create_task(drainer.drain())
        await waiting_for_locks(pool, 1)
    await draining
    assert list((await event_states(pool)).values()) == ["applied"]


async def test_an_owner_sees_the_event_whose_transaction_is_still_open(
    pool: Pool, organization: Organization, applier: Applier, drainer: Drainer
) -> None:
    await receive(pool, card())
    token = uuid4()
    async with pool.acquire() as connection:
        claimed = await inbox.claim(connection, rows_max=1, token=token, lease=LEASE)
    async with pool.acquire() as connection:
        async with connection.transaction():
            await connection.execute("SELECT FROM stripe_events FOR UPDATE")
            applying = asyncio.create_task(applier.apply(token, claimed))
            await waiting_for_locks(pool, 1)
            claiming = asyncio.create_task(claim_customer(pool, organization))
            await waiting_for_locks(pool, 2)
        await applying
        await claiming
    await drainer.drain()
    assert list((await event_states(pool)).values()) == ["applied"]


async def test_a_set_up_and_a_payment_of_one_customer_never_wait_for_each_other_in_a_circle(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await receive(pool, set_up(metadata={"organization_id": "acme"}))
    lock = "SELECT FROM accounts WHERE organization_id = $1 FOR NO KEY UPDATE"
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(lock, organization.id)  # as a payment has it when it binds
        draining = asyncio.create_task(drainer.drain())
        await waiting_for_locks(pool, 1)
        await inbox.reopen_waiting(connection, [CUSTOMER])
    await draining
    assert list((await event_states(pool)).values()) == ["applied"]


# A customer that is not the organization's own, and whose cards it has


async def has_a_card_of_another_customer(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await claim_customer(pool, organization)
    named: dict[str, Any] = {"customer": "cus_2", "metadata": {"organization_id": "acme"}}
    await apply(pool, drainer, card(name="2", **named))


async def test_the_deletion_of_a_customer_takes_its_cards_off_file_whoever_is_the_customer_now(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await has_a_card_of_another_customer(pool, organization, drainer)
    await recharging(pool, organization)
    await apply(pool, drainer, card(), tell("customer.deleted", {"id": "cus_2"}, at=200))
    assert [row["detached_at"] is not None for row in await cards(pool)] == [False, True]
    assert await pool.fetchval("SELECT stripe_customer_id FROM organizations") == CUSTOMER
    assert await state(pool) == ("active", None)


async def test_the_deletion_of_the_customer_of_the_last_card_suspends_for_want_of_one(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await has_a_card_of_another_customer(pool, organization, drainer)
    await recharging(pool, organization)
    await apply(pool, drainer, tell("customer.deleted", {"id": "cus_2"}, at=200))
    assert await pool.fetchval("SELECT stripe_customer_id FROM organizations") == CUSTOMER
    assert await state(pool) == ("suspended", "no_card")


async def test_what_is_told_late_of_a_deleted_customer_is_nobodys(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await claim_customer(pool, organization)
    deleted = tell("customer.deleted", {"id": CUSTOMER}, at=200)
    await apply(pool, drainer, card(), deleted, card(name="2", at=150))
    assert sorted(map(str, await waits_for(pool))) == ["None", "None", CUSTOMER]
    assert [row["detached_at"] is not None for row in await cards(pool)] == [True]
