"""A worker killed at a named step of a recharge attempt: one capture, one credit, one decline."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from shared.recharge import service
from shared.recharge.model import RechargeState, Rule, Schedule
from tests.crash_points import steps
from tests.fixtures.crash_points import Killer, shops
from tests.fixtures.ledger import grant, post
from tests.fixtures.recharging import Shop


async def recharged(shop: Shop) -> list[Decimal]:
    rows = await shop.pool.fetch(
        "SELECT amount FROM credit_transactions WHERE organization_id = $1 AND type = 'recharge'",
        shop.owner.id,
    )
    return [row["amount"] for row in rows]


async def test_a_recharge_whose_worker_is_killed_captures_and_credits_once(
    killer: Killer, shop: Shop
) -> None:
    async for step, here in shops(killer, shop, steps.RECHARGE):
        await here.open()
        await killer.kill(step, "charge")
        await here.work_until_settled()
        assert [row["state"] for row in await here.attempts()] == ["succeeded"], step.name
        assert await here.captures() == [2000], step.name
        assert await recharged(here) == [20], step.name


async def test_a_decline_whose_worker_is_killed_counts_once(killer: Killer, shop: Shop) -> None:
    async for step, here in shops(killer, shop, steps.DECLINE):
        await here.open("pm_card_chargeCustomerFail")
        await killer.kill(step, "charge")
        await here.work_until_settled()
        states = [row["state"] for row in await here.attempts()]
        assert "failed" in states, step.name
        assert (await here.settings()).declines_in_row == 1, step.name
        assert (await here.captures(), await recharged(here)) == ([], []), step.name


async def test_an_authentication_whose_worker_is_killed_is_asked_for_once(
    killer: Killer, shop: Shop
) -> None:
    await shop.add_endpoint()
    async for step, here in shops(killer, shop, steps.AUTHENTICATION):
        await here.open("pm_card_authenticationRequired")
        await killer.kill(step, "charge")
        await here.pool.execute(
            "UPDATE recharge_attempts SET due_at = now() WHERE organization_id = $1", here.owner.id
        )
        await here.charger.work()
        assert [row["state"] for row in await here.attempts()] == ["requires_action"], step.name
        assert (await here.settings()).state is RechargeState.PAUSED_REQUIRES_ACTION, step.name
        asked = await shop.pool.fetchval(
            "SELECT count(*) FROM outbound_messages"
            " WHERE organization_id = $1 AND type = 'recharge.requires_action'",
            here.owner.id,
        )
        assert asked == 1, step.name


async def test_a_schedule_whose_worker_is_killed_charges_once(killer: Killer, shop: Shop) -> None:
    monthly = Rule(schedule=Schedule.MONTHLY, schedule_day=31, schedule_amount=Decimal(30))
    began = shop.clock.now
    async for step, here in shops(killer, shop, steps.SCHEDULE):
        here.clock.now = began
        await here.save_card()
        await here.agree(monthly)
        await post(here.pool, grant(here.owner, 12))
        due = (await here.settings()).next_run_at
        assert due is not None
        now = due + timedelta(days=2)
        await killer.kill(step, "tick", now=now.isoformat())
        async with here.pool.acquire() as connection, connection.transaction():
            await service.tick(connection, now=now)
        here.clock.now = now
        await here.work()
        assert await here.captures() == [3000], step.name
        after = (await here.settings()).next_run_at
        assert after is not None
        assert after > now, step.name
