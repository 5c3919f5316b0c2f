"""From a delivered event to the ledger, once in any order: endpoint, inbox and drainer."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from shared.errors import PrepaidError
from shared.inbox import store
from shared.inbox.model import Lane
from tests.fixtures.product import (
    LEASE,
    Endpoint,
    balance,
    event_row,
    event_states,
    payment,
    receive,
    transactions,
)
from tests.integration.events import apply, open_purchase, purchase_state, session
from worker.drainer import Drainer

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.events.service import Applier
    from shared.organizations.model import Organization


# Once, whatever the order


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    "bodies",
    [
        pytest.param([payment("1"), session("1")], id="intent first"),
        pytest.param([session("1"), payment("1")], id="session first"),
    ],
)
async def test_both_events_of_a_payment_credit_it_once_in_either_order(
    pool: Pool, organization: Organization, drainer: Drainer, bodies: list[bytes], *, together: bool
) -> None:
    if together:
        await apply(pool, drainer, *bodies)
    else:
        for body in bodies:
            await apply(pool, drainer, body)
    assert await balance(pool) == 10
    assert len(await transactions(pool)) == 1
    assert set((await event_states(pool)).values()) == {"applied"}


async def test_an_applied_event_names_its_organization_and_its_transaction_its_payment(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await apply(pool, drainer, payment("1"))
    row = await event_row(pool, "evt_1")
    assert (row["state"], row["organization_id"], row["attempts"]) == (
        "applied",
        organization.id,
        1,
    )
    (credit,) = await transactions(pool)
    assert (credit["type"], credit["amount"], credit["counterparty"], credit["seq"]) == (
        "purchase",
        10,
        "stripe",
        1,
    )
    assert (credit["payment_intent_id"], credit["idempotency_key"]) == ("pi_1", "stripe:pi_1")


async def test_100_deliveries_at_once_of_one_event_are_one_row_and_one_credit(
    endpoint: Endpoint, pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    body = payment("1")
    drains = [asyncio.create_task(drainer.drain()) for _ in range(3)]
    answers = await asyncio.gather(*(endpoint.deliver(body) for _ in range(100)))
    await asyncio.gather(*drains)
    await drainer.drain()
    assert {answer.status for answer in answers} == {200}
    assert [answer.json["duplicate"] for answer in answers].count(False) == 1
    assert await event_states(pool) == {"evt_1": "applied"}
    assert await balance(pool) == 10


async def test_two_workers_at_once_on_both_events_of_50_payments_credit_each_once(
    pool: Pool, organization: Organization, applier: Applier
) -> None:
    names = [str(n) for n in range(50)]
    await receive(pool, *(payment(name) for name in names), *(session(n) for n in reversed(names)))
    workers = [Drainer(pool, applier, make_token=uuid4) for _ in range(2)]
    await asyncio.gather(*(worker.drain() for worker in workers for _ in range(3)))
    await workers[0].drain()
    assert set((await event_states(pool)).values()) == {"applied"}
    assert await balance(pool) == 500
    rows = await transactions(pool)
    assert [row["seq"] for row in rows] == list(range(1, 51))
    assert len({row["payment_intent_id"] for row in rows}) == 50


async def test_workers_on_the_same_payments_in_opposite_orders_credit_each_once(
    pool: Pool, organization: Organization, applier: Applier
) -> None:
    names = [f"{n:02}" for n in range(30)]
    await receive(pool, *(payment(name) for name in names))
    tokens = [UUID(int=1), UUID(int=2)]
    claims = []
    async with pool.acquire() as connection:
        claims.append(await store.claim(connection, rows_max=200, token=tokens[0], lease=LEASE))
        await receive(pool, *(session(name) for name in names))
        claims.append(await store.claim(connection, rows_max=200, token=tokens[1], lease=LEASE))
    claims[0].sort(key=lambda claimed: claimed.id)
    claims[1].sort(key=lambda claimed: claimed.id, reverse=True)
    await asyncio.gather(*map(applier.apply, tokens, claims))
    assert await balance(pool) == 300
    assert set((await event_states(pool)).values()) == {"applied"}


async def test_both_async_payment_events_of_a_session_credit_it_once(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await apply(pool, drainer, session("1"), session("1", "async_payment_succeeded"))
    assert await balance(pool) == 10
    assert set((await event_states(pool)).values()) == {"applied"}


# Purchases


@pytest.mark.parametrize(
    ("event_type", "state"), [("expired", "expired"), ("async_payment_failed", "failed")]
)
async def test_a_session_that_ended_without_money_closes_its_purchase(
    pool: Pool, organization: Organization, drainer: Drainer, event_type: str, state: str
) -> None:
    purchase_id = await open_purchase(pool, organization, "1")
    await apply(pool, drainer, session("1", event_type, payment_intent=None))
    assert await purchase_state(pool, purchase_id) == state
    assert await balance(pool) == 0


async def test_a_paid_session_closes_its_purchase_and_names_its_payment(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    purchase_id = await open_purchase(pool, organization, "1")
    await apply(pool, drainer, session("1"))
    row = await pool.fetchrow("SELECT * FROM purchases WHERE id = $1", purchase_id)
    assert row is not None
    assert (row["state"], row["payment_intent_id"]) == ("paid", "pi_1")


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("paid_first", [True, False])
async def test_a_paid_purchase_is_paid_whenever_it_is_said_to_have_expired(
    pool: Pool, organization: Organization, drainer: Drainer, *, together: bool, paid_first: bool
) -> None:
    purchase_id = await open_purchase(pool, organization, "1")
    bodies = [session("1"), session("1", "expired", payment_intent=None)]
    ordered = bodies if paid_first else bodies[::-1]
    if together:
        await apply(pool, drainer, *ordered)
    else:
        for body in ordered:
            await apply(pool, drainer, body)
    assert await purchase_state(pool, purchase_id) == "paid"
    assert await balance(pool) == 10


async def test_the_end_of_a_session_that_is_not_ours_changes_nothing(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await apply(pool, drainer, session("9", "expired"))
    assert await event_states(pool) == {"evt_cs_9_expired": "applied"}


# The fence


async def test_a_zombies_effects_roll_back_when_its_lease_has_passed_to_another(
    pool: Pool, organization: Organization, applier: Applier
) -> None:
    await receive(pool, payment("1"))
    zombie, heir = UUID(int=1), UUID(int=2)
    async with pool.acquire() as connection:
        old = await store.claim(connection, rows_max=1, token=zombie, lease=timedelta(0))
        new = await store.claim(connection, rows_max=1, token=heir, lease=LEASE, lane=Lane.ALONE)
    with pytest.raises(PrepaidError, match="lease"):
        await applier.apply(zombie, old)
    assert await transactions(pool) == []
    await applier.apply(heir, new)
    assert await balance(pool) == 10


async def test_a_stopped_drainer_takes_nothing_more(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    drainer.stop()
    await receive(pool, payment("1"))
    assert await drainer.drain() == 0
    assert await event_states(pool) == {"evt_1": "received"}


async def test_more_events_than_a_batch_holds_are_all_applied_by_one_drain(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await receive(pool, *(payment(str(n)) for n in range(450)))
    await drainer.drain()
    assert set((await event_states(pool)).values()) == {"applied"}
    assert await balance(pool) == 4500
