"""A suspension that only a person ends outranks those that end by themselves."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from shared.recharge import service
from shared.recharge.model import ENDED_BY_A_PERSON, SuspensionReason
from tests.fixtures.ledger import grant, post, usage
from tests.fixtures.recharging import Shop

BY_ITSELF = sorted(set(SuspensionReason) - ENDED_BY_A_PERSON)
BY_A_PERSON = sorted(ENDED_BY_A_PERSON)


async def suspend(shop: Shop, reason: SuspensionReason) -> None:
    async with shop.pool.acquire() as connection, connection.transaction():
        until = shop.clock() if reason is SuspensionReason.CAP else None
        await service.suspend(
            connection, shop.owner.id, reason, f"why {reason}", now=shop.clock(), until=until
        )


async def tick(shop: Shop) -> None:
    async with shop.pool.acquire() as connection, connection.transaction():
        await service.tick(connection, now=shop.clock())


async def standing(shop: Shop) -> tuple[Any, ...]:
    row = await shop.pool.fetchrow("SELECT * FROM auto_recharges")
    assert row is not None
    return row["state"], row["reason"], row["held_reason"]


@pytest.mark.parametrize(("first", "then"), list(product(BY_ITSELF, BY_A_PERSON)))
async def test_what_a_person_ends_replaces_what_ends_by_itself_and_not_the_other_way(
    shop: Shop, first: SuspensionReason, then: SuspensionReason
) -> None:
    """M10: a new card and a month's end change nothing."""
    await shop.add_endpoint()
    await shop.agree()
    await suspend(shop, first)
    await suspend(shop, then)
    await suspend(shop, first)
    await suspend(shop, then)
    async with shop.pool.acquire() as connection, connection.transaction():
        assert not await service.card_changed(connection, shop.owner.id)
        assert not await service.end_inquiry(connection, shop.owner.id)
        assert not await service.purchased(connection, shop.owner.id, now=shop.clock())
    await tick(shop)
    assert await standing(shop) == ("suspended", then, None)
    again = 3 if then is SuspensionReason.OPERATOR else 2
    assert await shop.messages() == ["recharge.suspended"] * again


async def test_a_dispute_during_a_cap_outlasts_the_month(shop: Shop) -> None:
    """M10."""
    await shop.save_card()
    await shop.agree()
    await suspend(shop, SuspensionReason.CAP)
    await suspend(shop, SuspensionReason.DISPUTE)
    await post(shop.pool, grant(shop.owner, 12), usage(shop.owner, 5))
    await tick(shop)
    await shop.work()
    assert await standing(shop) == ("suspended", "dispute", None)
    assert await shop.captures() == []


@pytest.mark.parametrize("reason", BY_A_PERSON)
@pytest.mark.parametrize("rule_before", [True, False])
async def test_a_reason_that_arrives_while_off_is_there_once_it_is_turned_on(
    shop: Shop, reason: SuspensionReason, *, rule_before: bool
) -> None:
    if rule_before:
        await shop.agree()
        async with shop.pool.acquire() as connection, connection.transaction():
            await service.turn_off(connection, shop.owner.id, actor="test", reason=None)
    await suspend(shop, reason)
    assert await standing(shop) == ("off", None, reason)
    await suspend(shop, SuspensionReason.DECLINES)
    await shop.agree()
    assert await standing(shop) == ("suspended", reason, None)


@pytest.mark.parametrize("reason", [None, *SuspensionReason])
@pytest.mark.parametrize("is_off", [True, False])
async def test_an_operator_can_always_stop_and_the_operators_reason_is_kept(
    shop: Shop, reason: SuspensionReason | None, *, is_off: bool
) -> None:
    """M11."""
    await shop.agree()
    if reason is not None:
        await suspend(shop, reason)
    async with shop.pool.acquire() as connection, connection.transaction():
        if is_off:
            await service.turn_off(connection, shop.owner.id, actor="test", reason=None)
        await service.suspend_by_operator(
            connection, shop.owner.id, actor="test", reason="stop", now=shop.clock()
        )
    await shop.agree()
    await suspend(shop, SuspensionReason.DISPUTE)
    row = await shop.pool.fetchrow("SELECT * FROM auto_recharges")
    assert row is not None
    assert (row["state"], row["reason"], row["detail"]) == ("suspended", "operator", "stop")


async def test_an_inquiry_that_closes_ends_what_it_suspended(shop: Shop) -> None:
    await shop.agree()
    await suspend(shop, SuspensionReason.INQUIRY)
    async with shop.pool.acquire() as connection, connection.transaction():
        assert await service.end_inquiry(connection, shop.owner.id)
    assert await standing(shop) == ("active", None, None)
    assert await shop.pool.fetchval("SELECT recharge_below FROM accounts") == 10


async def refund(shop: Shop, payment_intent_id: str) -> bool:
    async with shop.pool.acquire() as connection, connection.transaction():
        return await service.refunded(
            connection, shop.owner.id, payment_intent_id, now=shop.clock()
        )


async def test_a_refunded_recharge_waits_for_the_next_purchase_and_says_so_once(
    shop: Shop,
) -> None:
    """M4."""
    await shop.add_endpoint()
    await shop.open()
    await shop.work()
    payment = (await shop.attempt())["payment_intent_id"]
    assert await refund(shop, payment)
    assert not await refund(shop, payment)
    assert not await refund(shop, "pi_of_a_purchase")
    await post(shop.pool, usage(shop.owner, 25))
    await tick(shop)
    await shop.work()
    assert await standing(shop) == ("suspended", "refunded", None)
    assert await shop.captures() == [2000]
    assert (await shop.messages()).count("recharge.suspended") == 1
    async with shop.pool.acquire() as connection, connection.transaction():
        assert await service.purchased(connection, shop.owner.id, now=shop.clock())
    assert await standing(shop) == ("active", None, None)


async def test_another_card_ends_the_wait_after_a_soft_decline_at_once(shop: Shop) -> None:
    """M20."""
    await shop.open("pm_card_chargeCustomerFail")
    await shop.work()
    await post(shop.pool, usage(shop.owner, 1))
    await shop.charger.work()
    assert [row["state"] for row in await shop.attempts()] == ["armed", "failed"]
    await shop.pool.execute("UPDATE payment_methods SET detached_at = now()")
    await shop.save_card()
    async with shop.pool.acquire() as connection, connection.transaction():
        await service.card_changed(connection, shop.owner.id)
    await shop.charger.work()
    assert [row["state"] for row in await shop.attempts()] == ["succeeded", "failed"]


async def test_another_card_does_not_end_the_pause_between_two_charges(shop: Shop) -> None:
    await shop.open()
    await shop.pool.execute("UPDATE auto_recharges SET pause_seconds_min = 60")
    await shop.work()
    before = (await shop.settings()).not_before
    async with shop.pool.acquire() as connection, connection.transaction():
        await service.card_changed(connection, shop.owner.id)
    assert before is not None
    assert (await shop.settings()).not_before == before
