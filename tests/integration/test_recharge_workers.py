"""Auto-recharge with lost answers, dying workers and lost leases: one capture an attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from shared.ids import new_id
from shared.payments.payment_intents import (
    ChargeRequest,
    GatewayAnswer,
    OutcomeUnknown,
    PaymentIntentGateway,
)
from shared.recharge import service
from shared.recharge.attempts import store as attempt_store
from shared.recharge.model import Rule, Schedule
from tests.fixtures.ledger import grant, post, usage
from tests.fixtures.product import LEASE, balance, create_organization, until
from tests.fixtures.recharging import Shop
from worker.recharger import Recharger

if TYPE_CHECKING:
    from shared.db.pool import Pool


class Losing:
    """Stripe whose answers to some requests are lost after the act."""

    def __init__(self, real: PaymentIntentGateway, lost: Sequence[str]) -> None:
        self._real = real
        self._lost = list(lost)

    def __getattr__(self, name: str) -> Any:
        act = getattr(self._real, name)

        async def asked(*args: Any, **named: Any) -> GatewayAnswer:
            answer: GatewayAnswer = await act(*args, **named)
            if name in self._lost:
                self._lost.remove(name)
                return OutcomeUnknown("the answer was lost")
            return answer

        return asked


@pytest.mark.parametrize(
    "lost",
    [["create"], ["confirm"], ["confirm", "retrieve"], ["create", "create", "confirm", "retrieve"]],
)
async def test_a_lost_answer_is_settled_by_asking_and_charges_once(
    shop: Shop, lost: list[str]
) -> None:
    await shop.save_card()
    await shop.agree()
    await post(shop.pool, grant(shop.owner, 12))
    await post(shop.pool, usage(shop.owner, 5))
    losing: Any = Losing(shop.charger.gateway, lost)
    shop.charger = replace(shop.charger, gateway=losing)
    for _ in range(len(lost)):
        await shop.work()
        assert (await shop.attempt())["state"] == "unknown"
    await shop.work()
    assert (await shop.attempt())["state"] == "succeeded"
    assert await shop.captures() == [2000]
    assert await balance(shop.pool) == 27


class Dying(Exception):  # noqa: N818 - a death, not an error
    """The process ends here."""


@pytest.mark.parametrize("step", ["create", "confirm"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_worker_that_dies_around_a_request_is_taken_over(
    shop: Shop, step: str, when: str
) -> None:
    await shop.save_card()
    await shop.agree()
    await post(shop.pool, grant(shop.owner, 12))
    await post(shop.pool, usage(shop.owner, 5))

    class Killed(Losing):
        def __getattr__(self, name: str) -> Any:
            act = getattr(self._real, name)

            async def asked(*args: Any, **named: Any) -> GatewayAnswer:
                if name == step and when == "after":
                    await act(*args, **named)
                if name == step:
                    raise Dying
                answer: GatewayAnswer = await act(*args, **named)
                return answer

            return asked

    dying: Any = Killed(shop.charger.gateway, ())
    await replace(shop.charger, gateway=dying).work()
    assert (await shop.attempt())["state"] == "charging"
    await shop.work()
    assert (await shop.attempt())["state"] == "succeeded"
    assert await shop.captures() == [2000]
    assert await balance(shop.pool) == 27


async def test_a_worker_that_lost_its_lease_commits_nothing(shop: Shop) -> None:
    await shop.save_card()
    await shop.agree()
    await post(shop.pool, grant(shop.owner, 12))
    await post(shop.pool, usage(shop.owner, 5))

    class Slow(Losing):
        async def confirm(self, *args: Any, **named: Any) -> GatewayAnswer:
            answer = await self._real.confirm(*args, **named)
            await shop.work()  # another worker takes over meanwhile, and settles
            return answer

    await shop.add_endpoint()
    slow: Any = Slow(shop.charger.gateway, ())
    await replace(shop.charger, gateway=slow).work()
    assert (await shop.attempt())["state"] == "succeeded"
    assert await shop.captures() == [2000]
    assert await balance(shop.pool) == 27
    assert (await shop.messages()).count("recharge.succeeded") == 1


async def test_a_decline_of_which_two_workers_learn_counts_once(shop: Shop) -> None:
    class Slow(Losing):
        async def cancel(self, *args: Any, **named: Any) -> GatewayAnswer:
            answer: GatewayAnswer = await self._real.cancel(*args, **named)
            await shop.work()  # another worker takes over meanwhile, and settles
            return answer

    await shop.add_endpoint()
    await shop.open("pm_card_chargeCustomerFail")
    slow: Any = Slow(shop.charger.gateway, ())
    await replace(shop.charger, gateway=slow).work()
    assert [row["state"] for row in await shop.attempts()] == ["failed"]
    assert (await shop.settings()).declines_in_row == 1
    assert (await shop.messages()).count("recharge.failed") == 1


async def test_a_schedule_that_is_due_charges_once_on_two_workers(shop: Shop) -> None:
    await shop.save_card()
    await shop.agree(Rule(schedule=Schedule.MONTHLY, schedule_day=31, schedule_amount=Decimal(30)))
    await post(shop.pool, grant(shop.owner, 12))
    due = (await shop.settings()).next_run_at
    assert due is not None
    shop.clock.now = due + timedelta(days=2)

    async def tick() -> None:
        async with shop.pool.acquire() as connection, connection.transaction():
            await service.tick(connection, now=shop.clock.now)

    await asyncio.gather(tick(), tick())
    await asyncio.gather(shop.charger.work(), shop.charger.work())
    await tick()
    await shop.charger.work()
    assert await shop.captures() == [3000]
    after = (await shop.settings()).next_run_at
    assert after is not None
    assert after > shop.clock.now


async def test_the_charge_of_one_organization_never_waits_for_another(
    shop: Shop, pool: Pool
) -> None:
    other = await create_organization(pool, "other")
    for owner in (shop.owner, other):
        mine = replace(shop, owner=owner)
        await mine.save_card()
        await mine.agree()
        await post(pool, grant(owner, 12))
        await post(pool, usage(owner, 5))
    await shop.charger.work()
    states = await pool.fetch("SELECT state FROM recharge_attempts")
    assert [row["state"] for row in states] == ["succeeded", "succeeded"]


async def test_a_charge_that_stripe_does_not_answer_holds_up_no_other_organization(
    shop: Shop, pool: Pool, database_url: str
) -> None:
    gate, reached, stop = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class Held(PaymentIntentGateway):
        async def create(self, charge: ChargeRequest, *, key: str) -> GatewayAnswer:
            if charge.organization_id == shop.owner.id:
                reached.set()
                await gate.wait()
            return await super().create(charge, key=key)

    charger = replace(shop.charger, gateway=Held(shop.client))
    working = asyncio.create_task(Recharger(pool, charger, database_url).run(stop))
    await shop.open()
    await reached.wait()
    other = replace(shop, owner=await create_organization(pool, "other"))
    await other.open()

    async def other_is_charged() -> bool:
        return [row["state"] for row in await other.attempts()] == ["succeeded"]

    await until(other_is_charged)
    assert (await shop.attempt())["state"] == "charging"
    gate.set()
    stop.set()
    await working
    assert await shop.captures() == [2000]


async def test_attempts_that_others_have_locked_do_not_delay_the_next_ones(pool: Pool) -> None:
    owners = [await create_organization(pool, f"due-{n}") for n in range(5)]
    for number, owner in enumerate(owners):
        await pool.execute(
            "INSERT INTO recharge_attempts (id, organization_id, state, created_at, due_at)"
            " VALUES ($1, $2, 'armed', now(), now() - make_interval(mins => 10 - $3))",
            new_id(), owner.id, number,
        )  # fmt: skip
    async with pool.acquire() as other, other.transaction():
        await other.execute(
            "SELECT FROM recharge_attempts WHERE organization_id = ANY ($1) FOR UPDATE",
            [owner.id for owner in owners[:3]],
        )
        async with pool.acquire() as connection:
            leases = await attempt_store.claim(connection, rows_max=1, token=new_id(), lease=LEASE)
    assert [lease.attempt.organization_id for lease in leases] == [owners[3].id]
