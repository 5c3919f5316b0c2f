"""Whoever charges, debits or changes settings of one organization takes its locks in one order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from shared.db.pool import create_pool
from shared.events.service import Applier
from shared.ids import new_id
from shared.ledger import service as ledger
from shared.payments.model import SaleTerms
from shared.payments.payment_intents import GatewayAnswer, PaymentIntentGateway
from shared.recharge import service
from shared.recharge.model import SuspensionReason
from shared.recharge.rules import ChargeAmount
from shared.recharge.top_ups.service import top_up
from tests.fixtures.api import ApiClient
from tests.fixtures.ledger import grant, post, usage
from tests.fixtures.product import LEASE, payment, receive, until
from tests.fixtures.recharging import TOP, Shop
from tests.fixtures.reversals import make_due
from tests.integration.test_event_cards import CUSTOMER, card
from worker.drainer import Drainer

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

CONTENDING = "contending"
CLIENTS = 6
DEBITS_OF_A_CLIENT = 40
LOCK_ACCOUNT = "SELECT FROM accounts WHERE organization_id = $1 FOR UPDATE"
Act = Callable[[Shop], Awaitable[Any]]


@asynccontextmanager
async def contending(shop: Shop, database_url: str) -> AsyncIterator[Shop]:
    """Give a shop with sessions of its own; at the end, none of them was ever in a deadlock.

    PostgreSQL counts a session's deadlocks for certain when the session has ended.
    """
    async with create_pool(database_url, size=20, application_name=CONTENDING) as pool:
        yield replace(shop, pool=pool, charger=replace(shop.charger, pool=pool))

    async def all_have_ended() -> bool:
        sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1"
        return bool(await shop.pool.fetchval(sessions, CONTENDING) == 0)

    await until(all_have_ended)
    counted = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert await shop.pool.fetchval(counted) == 0


async def are_waiting(shop: Shop, sessions: int) -> None:
    """Wait until that many sessions wait for a lock."""

    async def waiting() -> bool:
        count = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND wait_event_type = 'Lock'"
        )
        return bool(await shop.pool.fetchval(count) == sessions)

    await until(waiting)


@dataclass
class Gate:
    """Holds what the charger does after one of its requests, until it is opened."""

    real: PaymentIntentGateway
    step: str
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    def __getattr__(self, name: str) -> Any:
        act = getattr(self.real, name)

        async def asked(*args: Any, **named: Any) -> GatewayAnswer:
            answer: GatewayAnswer = await act(*args, **named)
            if name == self.step:
                self.reached.set()
                await self.opened.wait()
            return answer

        return asked


async def debit(shop: Shop, connection: Connection) -> None:
    """Debit what keeps the balance below the threshold: it would arm an attempt."""
    (result,) = await ledger.post(connection, [usage(shop.owner, Decimal("0.1"))])
    assert result.status == "posted"


async def armed(shop: Shop, card_: str | None = "pm_card_visa") -> None:
    if card_ is not None:
        await shop.save_card(card_)
    await shop.agree()
    await post(shop.pool, grant(shop.owner, 12))
    await post(shop.pool, usage(shop.owner, 5))


async def low_and_not_armed(shop: Shop) -> None:
    await shop.save_card()
    await post(shop.pool, grant(shop.owner, 12))
    await post(shop.pool, usage(shop.owner, 5))
    await shop.agree()


async def work(shop: Shop) -> None:
    await shop.charger.work()


async def tick(shop: Shop) -> None:
    async with shop.pool.acquire() as connection, connection.transaction():
        await service.tick(connection, now=shop.clock())


async def buy(shop: Shop) -> None:
    await top_up(
        shop.charger, shop.owner, ChargeAmount(2000, Decimal(20)), attempt_id=new_id(), actor="test"
    )


@pytest.mark.parametrize(
    ("before", "act"),
    [
        pytest.param(lambda shop: armed(shop, None), work, id="a suspension for want of a card"),
        pytest.param(armed, work, id="a charge that begins"),
        pytest.param(low_and_not_armed, buy, id="a top-up"),
    ],
)
async def test_a_debit_and_what_begins_at_the_same_time_never_wait_for_each_other_in_a_circle(
    shop: Shop, database_url: str, before: Act, act: Act
) -> None:
    await before(shop)
    async with contending(shop, database_url) as mine:
        async with mine.pool.acquire() as connection, connection.transaction():
            await connection.execute(LOCK_ACCOUNT, shop.owner.id)
            acting = asyncio.ensure_future(act(mine))
            await are_waiting(shop, 1)
            await debit(shop, connection)
        await acting


async def forget_the_card(shop: Shop) -> None:
    """Have Stripe refuse to charge it; the event that tells of it is still to come."""
    method = await shop.pool.fetchval("SELECT id FROM payment_methods")
    await shop.client.v1.payment_methods.detach_async(method)


async def decline_twice(shop: Shop) -> None:
    await shop.pool.execute("UPDATE auto_recharges SET declines_in_row = 2")


async def nothing(_shop: Shop) -> None:
    """Leave it as it is."""


@pytest.mark.parametrize(
    ("card_", "before", "step"),
    [
        pytest.param("pm_card_visa", nothing, "confirm", id="captured"),
        pytest.param("pm_card_chargeCustomerFail", nothing, "cancel", id="declined"),
        pytest.param("pm_card_chargeCustomerFail", decline_twice, "cancel", id="declined for good"),
        pytest.param("pm_card_authenticationRequired", nothing, "confirm", id="authentication"),
        pytest.param("pm_card_visa", forget_the_card, "create", id="refused"),
    ],
)
async def test_a_debit_and_the_end_of_a_charge_never_wait_for_each_other_in_a_circle(
    shop: Shop, database_url: str, card_: str, before: Act, step: str
) -> None:
    await armed(shop, card_)
    await before(shop)
    gate: Any = Gate(shop.charger.gateway, step)
    async with contending(shop, database_url) as mine:
        working = asyncio.create_task(replace(mine.charger, gateway=gate).work())
        await gate.reached.wait()
        async with mine.pool.acquire() as connection, connection.transaction():
            await connection.execute(LOCK_ACCOUNT, shop.owner.id)
            gate.opened.set()
            await are_waiting(shop, 1)
            await debit(shop, connection)
        await working


async def test_a_debit_and_the_end_of_a_link_never_wait_for_each_other_in_a_circle(
    shop: Shop, database_url: str
) -> None:
    await armed(shop, "pm_card_authenticationRequired")
    await shop.work()
    shop.clock.now += timedelta(hours=24)
    await shop.pool.execute("UPDATE recharge_attempts SET due_at = now()")
    # As it is where somebody resumed by hand while the page waited.
    await shop.pool.execute("UPDATE accounts SET recharge_below = 10")
    async with contending(shop, database_url) as mine:
        async with mine.pool.acquire() as connection, connection.transaction():
            await connection.execute(LOCK_ACCOUNT, shop.owner.id)
            working = asyncio.create_task(mine.charger.work())
            await are_waiting(shop, 1)
            await debit(shop, connection)
        await working
    assert (await shop.settings()).reason == "authentication_expired"


async def suspend_by_operator(shop: Shop) -> None:
    async with shop.pool.acquire() as connection, connection.transaction():
        await service.suspend_by_operator(
            connection, shop.owner.id, actor="test", reason="a test", now=shop.clock()
        )


async def resume(shop: Shop) -> None:
    async with shop.pool.acquire() as connection, connection.transaction():
        await service.resume(connection, shop.owner.id, actor="test", reason=None)


async def turn_off(shop: Shop) -> None:
    async with shop.pool.acquire() as connection, connection.transaction():
        await service.turn_off(connection, shop.owner.id, actor="test", reason=None)


@pytest.mark.parametrize(
    ("before", "act"),
    [
        pytest.param(nothing, Shop.agree, id="a change of the rule"),
        pytest.param(nothing, turn_off, id="an end of the consent"),
        pytest.param(nothing, suspend_by_operator, id="a suspension"),
        pytest.param(suspend_by_operator, resume, id="the end of a suspension"),
    ],
)
async def test_a_capture_and_a_change_of_auto_recharge_never_wait_for_each_other_in_a_circle(
    shop: Shop, database_url: str, before: Act, act: Act
) -> None:
    await armed(shop)
    gate: Any = Gate(shop.charger.gateway, "confirm")
    async with contending(shop, database_url) as mine:
        working = asyncio.create_task(replace(mine.charger, gateway=gate).work())
        await gate.reached.wait()
        await before(mine)
        async with mine.pool.acquire() as connection, connection.transaction():
            await connection.execute(LOCK_ACCOUNT, shop.owner.id)
            gate.opened.set()
            await are_waiting(shop, 1)
            acting = asyncio.ensure_future(act(mine))
            await are_waiting(shop, 2)
        await asyncio.gather(working, acting)
    assert (await shop.attempt())["state"] == "succeeded"


def drain(pool: Pool) -> asyncio.Task[Any]:
    """Apply what has been received, on a worker of its own."""
    drainer = Drainer(pool, Applier(pool, SaleTerms(Decimal(1))), make_token=new_id, lease=LEASE)
    return asyncio.create_task(drainer.drain())


@pytest.mark.parametrize("first", ["a payment", "a card"])
async def test_a_payment_and_the_card_that_it_leaves_never_wait_for_each_other_in_a_circle(
    shop: Shop, database_url: str, first: str
) -> None:
    """Checkout tells of both at the same moment, and of the customer for the first time."""
    told = {
        "a payment": payment(
            "new", customer=CUSTOMER, setup_future_usage="off_session", payment_method="pm_1"
        ),
        "a card": card(metadata={"organization_id": shop.owner.slug}),
    }
    second = next(name for name in told if name != first)
    await shop.agree()
    async with shop.pool.acquire() as connection, connection.transaction():
        await service.suspend(
            connection,
            shop.owner.id,
            SuspensionReason.NO_CARD,
            "a test",
            now=shop.clock(),
        )
    async with contending(shop, database_url) as mine:
        async with mine.pool.acquire() as connection, connection.transaction():
            await connection.execute(LOCK_ACCOUNT, shop.owner.id)
            await receive(mine.pool, told[first])
            one = drain(mine.pool)
            await are_waiting(shop, 1)
            await receive(mine.pool, told[second])
            other = drain(mine.pool)
            await are_waiting(shop, 2)
        await asyncio.gather(one, other)
    # An event that gave up after its 0.8 s in the queue is applied on its next try.
    await make_due(shop.pool)
    await drain(shop.pool)
    states = await shop.pool.fetch("SELECT state FROM stripe_events")
    assert [row["state"] for row in states] == ["applied"] * 2


async def test_clients_that_debit_through_a_cap_while_settings_change_are_never_in_a_deadlock(
    shop: Shop, database_url: str, paying_client: ApiClient
) -> None:
    """Captures, declines, suspensions and their ends, all at once and on one organization."""
    await shop.save_card()
    await shop.agree(replace(TOP, monthly_cap=Decimal(30)))
    await post(shop.pool, grant(shop.owner, 12))
    left = CLIENTS

    async def spend(mine: Shop) -> None:
        nonlocal left
        for _ in range(DEBITS_OF_A_CLIENT):
            await post(mine.pool, usage(shop.owner, 1, may_overdraw=True))
        left -= 1

    async def while_they_spend(act: Act, mine: Shop) -> None:
        while left:
            await act(mine)

    async def change(_mine: Shop) -> None:
        body = {
            "autoRechargeEnabled": True,
            "autoRechargeMonthlyCountCap": 1_000,
            "consentedBy": "jo@acme.example",
        }
        answer = await paying_client.call("PATCH", "/v1/organizations/acme/billing", body)
        assert answer.status == 200, answer.json

    async with contending(shop, database_url) as mine:
        acts = (Shop.work, Shop.work, tick, resume, change)
        await asyncio.gather(
            *(spend(mine) for _ in range(CLIENTS)),
            *(while_they_spend(act, mine) for act in acts),
        )
    assert {row["state"] for row in await shop.attempts()} & {"succeeded", "canceled"}
