"""What a schedule was to charge is charged once what kept it from it is over."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from shared.recharge import service
from shared.recharge.model import Rule, Schedule, SuspensionReason
from shared.recharge.states import UNANSWERED_MAX
from tests.fixtures.recharging import Shop

MONTHLY = Rule(schedule=Schedule.MONTHLY, schedule_day=1, schedule_amount=Decimal(30))
CREATE: dict[str, Any] = {"method": "POST", "path": "/v1/payment_intents"}
CONFIRM: dict[str, Any] = {"method": "POST", "path": "/v1/payment_intents/*/confirm"}


async def tick(shop: Shop) -> None:
    async with shop.pool.acquire() as connection, connection.transaction():
        await service.tick(connection, now=shop.clock())


async def go_on(shop: Shop, rounds: int = 3) -> None:
    for _ in range(rounds):
        await tick(shop)
        await shop.work()
        shop.clock.now += timedelta(minutes=2)


async def mend(shop: Shop) -> None:
    async with shop.session.delete("/_sim/faults") as cleared:
        assert cleared.status == 200


async def arm(shop: Shop) -> None:
    """Let the first of the month come."""
    await shop.agree(MONTHLY)
    shop.clock.now += timedelta(days=32)
    await tick(shop)
    assert (await shop.attempt())["state"] == "armed"


async def suspend(shop: Shop, reason: SuspensionReason) -> None:
    async with shop.pool.acquire() as connection, connection.transaction():
        await service.suspend(connection, shop.owner.id, reason, "why", now=shop.clock())


async def resume(shop: Shop) -> None:
    async with shop.pool.acquire() as connection, connection.transaction():
        assert await service.resume(connection, shop.owner.id, actor="ops", reason=None)


@pytest.mark.parametrize("step", [CREATE, CONFIRM], ids=["create", "confirm"])
@pytest.mark.parametrize("fault", ["unauthorized_401", "bad_parameter_400", "error_500"])
async def test_an_outage_of_more_than_a_day_puts_a_schedule_off_and_does_not_skip_it(
    shop: Shop, step: dict[str, Any], fault: str
) -> None:
    """M17."""
    await shop.save_card()
    await shop.sim("faults", **step, fault=fault, times=100)
    await arm(shop)
    await shop.work()
    shop.clock.now += UNANSWERED_MAX + timedelta(minutes=1)
    await shop.work()
    await mend(shop)
    await go_on(shop)
    assert await shop.captures() == [3000]
    assert (await shop.settings()).next_run_at > shop.clock()  # type: ignore[operator]


async def test_a_schedule_without_a_card_is_charged_once_there_is_one(shop: Shop) -> None:
    await arm(shop)
    await shop.work()
    assert (await shop.settings()).reason == "no_card"
    await shop.save_card()
    async with shop.pool.acquire() as connection, connection.transaction():
        assert await service.card_on_file(connection, shop.owner.id)
    await go_on(shop)
    assert await shop.captures() == [3000]


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("step", [CREATE, CONFIRM], ids=["create", "confirm"])
async def test_a_schedule_that_was_suspended_before_its_charge_is_charged_once_it_is_resumed(
    shop: Shop, step: dict[str, Any], *, begun: bool
) -> None:
    await shop.save_card()
    if begun:
        await shop.sim("faults", **step, fault="unauthorized_401", times=1)
    await arm(shop)
    if begun:
        await shop.work()
    await suspend(shop, SuspensionReason.OPERATOR)
    await shop.work()
    assert (await shop.attempt())["state"] == "canceled"
    await resume(shop)
    await go_on(shop)
    assert await shop.captures() == [3000]


async def test_a_schedule_that_was_canceled_at_stripe_is_not_charged_again(shop: Shop) -> None:
    await shop.save_card()
    await shop.sim("faults", **CONFIRM, fault="unauthorized_401", times=1)
    await arm(shop)
    await shop.work()
    await shop.client.v1.payment_intents.cancel_async((await shop.attempt())["payment_intent_id"])
    await go_on(shop)
    assert await shop.captures() == []
    assert [row["state"] for row in await shop.attempts()] == ["canceled"]
