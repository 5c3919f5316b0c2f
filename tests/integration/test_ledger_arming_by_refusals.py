"""Refused usage and holds arm a recharge for what they need."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from shared.ledger.model import TransactionType
from shared.recharge import service as recharge
from shared.recharge.model import Rule
from tests.fixtures.arming import PAYMENT, attempts, end, is_armed, waits
from tests.fixtures.ledger import balances, grant, hold, post, posting, statuses, try_hold, usage
from tests.fixtures.recharging import TOP as BY_AMOUNT
from tests.fixtures.recharging import agree

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

TO_TARGET = Rule(threshold=Decimal(10), target=Decimal(50), pause_seconds_min=0)


async def test_m6_refused_usage_arms_what_it_needs(pool: Pool, organization: Organization) -> None:
    """M6: balance 12, threshold 10, target 50, usage of 15."""
    await post(pool, grant(organization, 12))
    await agree(pool, organization, TO_TARGET)
    assert await statuses(pool, usage(organization, 15)) == ["insufficient"]
    (attempt,) = await attempts(pool, organization)
    assert (attempt["state"], attempt["trigger"], attempt["needed"]) == ("armed", "threshold", 15)
    assert await balances(pool, organization) == (12, 0)


@pytest.mark.parametrize("as_hold", [False, True])
@pytest.mark.parametrize(
    ("rule", "before", "needed", "arms"),
    [
        pytest.param(TO_TARGET, 12, 15, True, id="a target that covers it"),
        pytest.param(TO_TARGET, 12, 500, True, id="a target that helps"),
        pytest.param(TO_TARGET, 50, 60, False, id="at the target"),
        pytest.param(TO_TARGET, 80, 90, False, id="above the target"),
        pytest.param(BY_AMOUNT, 12, 15, True, id="an amount"),
        pytest.param(BY_AMOUNT, 30, 40, False, id="at threshold and amount"),
        pytest.param(BY_AMOUNT, 29, 40, True, id="below threshold and amount"),
        pytest.param(None, 12, 15, False, id="no rule"),
    ],
)
async def test_a_refusal_arms_where_a_recharge_raises_what_is_spendable(
    pool: Pool,
    organization: Organization,
    rule: Rule | None,
    before: int,
    needed: int,
    arms: bool,
    as_hold: bool,
) -> None:
    """M6, of usage and of holds."""
    await post(pool, grant(organization, before))
    if rule is not None:
        await agree(pool, organization, rule)
    for _ in range(3):
        if as_hold:
            assert (await try_hold(pool, organization, needed)).status == "insufficient"
        else:
            assert await statuses(pool, usage(organization, needed)) == ["insufficient"]
    found = await attempts(pool, organization)
    assert [(row["state"], row["needed"]) for row in found] == [("armed", needed)] * arms


async def test_a_capture_beyond_its_hold_that_is_refused_arms_for_the_excess(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 50))
    await agree(pool, organization, TO_TARGET)
    held = await hold(pool, organization, 38)
    capture = posting(
        organization, TransactionType.HOLD_CAPTURE, -60, hold_id=held.id, may_overdraw=True
    )
    assert await statuses(pool, capture) == ["insufficient"]
    (attempt,) = await attempts(pool, organization)
    assert attempt["needed"] == 22


async def test_a_refused_adjustment_arms_nothing(pool: Pool, organization: Organization) -> None:
    await post(pool, grant(organization, 12))
    await agree(pool, organization, TO_TARGET)
    asked = posting(organization, TransactionType.ADJUSTMENT, -15)
    assert await statuses(pool, asked) == ["insufficient"]
    assert not await is_armed(pool, organization)


@pytest.mark.parametrize("state", ["off", "suspended"])
async def test_a_refusal_arms_nothing_while_auto_recharge_does_not_run(
    pool: Pool, organization: Organization, state: str
) -> None:
    await post(pool, grant(organization, 12))
    await agree(pool, organization, TO_TARGET)
    async with pool.acquire() as connection, connection.transaction():
        if state == "off":
            await recharge.turn_off(connection, organization.id, actor="test", reason=None)
        else:
            await recharge.suspend_by_operator(
                connection, organization.id, actor="test", reason="test", now=datetime.now(UTC)
            )
    assert await statuses(pool, usage(organization, 15)) == ["insufficient"]
    assert not await is_armed(pool, organization)


async def test_the_armed_attempt_needs_the_most_that_was_refused(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 12))
    await agree(pool, organization, TO_TARGET)
    for amount in (15, 40, 20):
        await post(pool, usage(organization, amount))
    (attempt,) = await attempts(pool, organization)
    assert attempt["needed"] == 40
    await end(pool, organization)
    await post(pool, usage(organization, 13), usage(organization, 30), usage(organization, 14))
    assert (await attempts(pool, organization))[-1]["needed"] == 30


async def test_an_attempt_that_is_charging_takes_no_needs_over(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 12))
    await agree(pool, organization, TO_TARGET)
    await post(pool, usage(organization, 15))
    await pool.execute(
        "UPDATE recharge_attempts SET state = 'charging', amount = 38, amount_minor = 3800,"
        " currency = 'usd', customer_id = 'cus_1', payment_method_id = 'pm_1', charged_at = now()"
    )
    await post(pool, usage(organization, 40))
    (attempt,) = await attempts(pool, organization)
    assert (attempt["state"], attempt["needed"]) == ("charging", 15)


async def test_the_same_posting_refused_and_later_posted_arms_each_time(
    pool: Pool, organization: Organization
) -> None:
    """A caller retries under the same id: each attempt has one of its own."""
    await post(pool, grant(organization, 12))
    await agree(pool, organization, TO_TARGET)
    asked = usage(organization, 15)
    for _ in range(2):
        assert await statuses(pool, asked) == ["insufficient"]
        await end(pool, organization)
    await post(pool, grant(organization, 5))
    assert await statuses(pool, asked) == ["posted"]
    assert len(await attempts(pool, organization)) == 3


async def test_a_refusal_in_a_batch_arms_once_and_harms_no_other_posting(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 12))
    await agree(pool, organization, TO_TARGET)
    asked = [usage(organization, 1), usage(organization, 15), usage(organization, 0.5)]
    assert await statuses(pool, *asked) == ["posted", "insufficient", "posted"]
    (attempt,) = await attempts(pool, organization)
    assert attempt["needed"] == 15


async def test_a_refund_after_a_refusal_in_one_batch_arms_nothing(
    pool: Pool, organization: Organization
) -> None:
    bought = posting(organization, TransactionType.PURCHASE, 12, payment_intent_id=PAYMENT)
    await post(pool, bought)
    await agree(pool, organization, TO_TARGET)
    refund = posting(organization, TransactionType.REFUND, -12, payment_intent_id=PAYMENT)
    await post(pool, usage(organization, 15), refund)
    assert not await is_armed(pool, organization)
    assert await waits(pool, organization)


async def test_an_overdraft_limit_counts_for_the_refusal_and_not_for_the_threshold(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 12))
    await agree(pool, organization, replace(TO_TARGET, threshold=Decimal(2)))
    await pool.execute("UPDATE accounts SET overdraft_limit = 100")
    assert await statuses(pool, usage(organization, 11)) == ["posted"]
    (attempt,) = await attempts(pool, organization)
    assert attempt["needed"] is None


async def test_m6_64_refusals_at_once_arm_one_attempt(
    pool: Pool, organization: Organization
) -> None:
    """M6: debits and holds together; the attempt needs the most that was refused."""
    await post(pool, grant(organization, 12))
    await agree(pool, organization, TO_TARGET)
    debits = [statuses(pool, usage(organization, 13 + n)) for n in range(32)]
    holds = [try_hold(pool, organization, 13 + n) for n in range(32)]
    await asyncio.gather(*debits, *holds)
    (attempt,) = await attempts(pool, organization)
    assert (attempt["state"], attempt["needed"]) == ("armed", 44)
