"""From a hold, a refusal or a refund to what the card is charged, against the Stripe simulator."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from shared.ledger.model import TransactionType
from shared.recharge import service
from tests.fixtures.ledger import balances, grant, hold, post, posting, statuses, try_hold, usage
from tests.fixtures.recharging import TOP, Shop

TO_TARGET = replace(TOP, amount=None, target=Decimal(50))


async def test_m6_usage_that_was_refused_is_posted_after_its_recharge(shop: Shop) -> None:
    """M6: balance 12, threshold 10, target 50, usage of 15."""
    await shop.save_card()
    await shop.agree(TO_TARGET)
    await post(shop.pool, grant(shop.owner, 12))
    asked = usage(shop.owner, 15)
    assert await statuses(shop.pool, asked) == ["insufficient"]
    await shop.work()
    assert await shop.captures() == [3800]
    assert await balances(shop.pool, shop.owner) == (50, 0)
    assert await statuses(shop.pool, asked) == ["posted"]


async def test_m7_a_hold_that_leaves_too_little_is_charged_for(shop: Shop) -> None:
    """M7: balance 100, threshold 10, hold of 95, then hold of 6."""
    await shop.save_card()
    await shop.agree()
    await post(shop.pool, grant(shop.owner, 100))
    await hold(shop.pool, shop.owner, 95)
    await shop.work()
    assert await shop.captures() == [2000]
    assert (await try_hold(shop.pool, shop.owner, 6)).status == "posted"


async def test_m4_a_refund_charges_nothing_before_the_next_usage(shop: Shop) -> None:
    await shop.save_card()
    await shop.agree()
    bought = posting(shop.owner, TransactionType.PURCHASE, 12, payment_intent_id="pi_1")
    refund = posting(shop.owner, TransactionType.REFUND, -7, payment_intent_id="pi_1")
    await post(shop.pool, bought, refund)
    async with shop.pool.acquire() as connection, connection.transaction():
        await service.tick(connection, now=shop.clock())
    await shop.work()
    assert await shop.captures() == []
    await post(shop.pool, usage(shop.owner, 1))
    await shop.work()
    assert await shop.captures() == [2000]


async def test_refusals_while_a_declined_card_waits_leave_one_attempt_armed(shop: Shop) -> None:
    await shop.save_card("pm_card_chargeCustomerFail")
    await shop.agree(TO_TARGET)
    await post(shop.pool, grant(shop.owner, 12))
    for _ in range(5):
        assert await statuses(shop.pool, usage(shop.owner, 1500)) == ["insufficient"]
        await shop.work()
    assert [row["state"] for row in await shop.attempts()] == ["armed", "failed"]


async def test_refusals_in_a_loop_at_the_cap_suspend_once_and_say_that_nothing_comes(
    shop: Shop,
) -> None:
    await shop.add_endpoint()
    await shop.save_card()
    await shop.agree(replace(TO_TARGET, monthly_count_cap=1))
    await post(shop.pool, grant(shop.owner, 5))
    assert await statuses(shop.pool, usage(shop.owner, 6)) == ["insufficient"]
    await shop.work()
    assert await shop.captures() == [4500]
    coming = []
    for _ in range(5):
        (refused,) = await post(shop.pool, usage(shop.owner, 51))
        assert refused.shortfall is not None
        coming.append(refused.shortfall.recharge_seconds is not None)
        await shop.work()
    await post(shop.pool, usage(shop.owner, 45))
    for _ in range(5):
        (refused,) = await post(shop.pool, usage(shop.owner, 51))
        assert refused.shortfall is not None
        coming.append(refused.shortfall.recharge_seconds is not None)
        await shop.work()
    assert coming == [False] * 5 + [True] + [False] * 4
    assert (await shop.settings()).reason == "cap"
    assert await shop.captures() == [4500]
    assert (await shop.messages()).count("recharge.suspended") == 1


async def test_refusals_while_a_charge_waits_for_its_customer_arm_nothing(shop: Shop) -> None:
    await shop.save_card("pm_card_authenticationRequired")
    await shop.agree(TO_TARGET)
    await post(shop.pool, grant(shop.owner, 5))
    for _ in range(4):
        (refused,) = await post(shop.pool, usage(shop.owner, 6))
        assert refused.shortfall is not None
        last = refused.shortfall.recharge_seconds
        await shop.work()
    assert last is None
    assert [row["state"] for row in await shop.attempts()] == ["requires_action"]
