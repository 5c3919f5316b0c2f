"""Auto-recharge against the Stripe simulator: one capture an attempt, credited once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from shared.errors import ValidationError
from shared.payments.payment_intents import OutcomeUnknown
from shared.recharge import service
from shared.recharge.model import ENDED_BY_A_PERSON, RechargeState, Rule, SuspensionReason
from tests.fixtures.ledger import grant, post, usage
from tests.fixtures.product import balance, transactions
from tests.fixtures.recharging import TOP, UNITS_MAX, Shop


async def test_a_debit_below_the_threshold_is_charged_and_credited_once(shop: Shop) -> None:
    await shop.save_card()
    await shop.agree()
    await post(shop.pool, grant(shop.owner, 12))
    await post(shop.pool, usage(shop.owner, 5))
    await shop.charger.work()
    attempt = await shop.attempt()
    assert (attempt["state"], attempt["amount_minor"]) == ("succeeded", 2000)
    assert await balance(shop.pool) == 27
    row = (await transactions(shop.pool))[-1]
    assert (row["type"], row["amount"]) == ("recharge", 20)
    assert row["idempotency_key"] == f"stripe:{attempt['payment_intent_id']}"
    assert await shop.captures() == [2000]


async def test_one_charge_closes_the_whole_gap(shop: Shop) -> None:
    await shop.save_card()
    await shop.agree()
    await post(shop.pool, grant(shop.owner, 12))
    await post(shop.pool, usage(shop.owner, 62, may_overdraw=True))
    await shop.charger.work()
    assert await shop.captures() == [8000]
    assert await balance(shop.pool) == 30


async def test_64_debits_across_the_threshold_at_once_arm_one_attempt(shop: Shop) -> None:
    await shop.save_card()
    await shop.agree()
    await post(shop.pool, grant(shop.owner, 12))
    await asyncio.gather(*(post(shop.pool, usage(shop.owner, Decimal("0.1"))) for _ in range(64)))
    assert len(await shop.attempts()) == 1
    await asyncio.gather(*(shop.charger.work() for _ in range(4)))
    assert await shop.captures() == [2000]


async def test_nothing_is_charged_without_consent(shop: Shop) -> None:
    await shop.save_card()
    await post(shop.pool, grant(shop.owner, 12))
    await post(shop.pool, usage(shop.owner, 11))
    assert await shop.attempts() == []
    consented = await shop.pool.fetchval("SELECT count(*) FROM auto_recharges")
    assert consented == 0


@pytest.mark.parametrize("name", [None, "", "  ", "\u200b\u202e\ufeff", "\n\u00a0\u3000"])
async def test_no_rule_is_turned_on_without_somebody_who_consents(
    shop: Shop, name: str | None
) -> None:
    async with shop.pool.acquire() as connection, connection.transaction():
        with pytest.raises(ValidationError, match="consentedBy"):
            await service.configure(
                connection, shop.owner.id, TOP, currency="usd", credits_per_unit=Decimal(1),
                units_max=UNITS_MAX, consented_by=name, actor="test", now=shop.clock(),
            )  # fmt: skip
    assert await shop.pool.fetchval("SELECT count(*) FROM auto_recharges") == 0


async def test_consent_and_rule_stand_in_the_audit_log(shop: Shop) -> None:
    await shop.agree()
    row = await shop.pool.fetchrow("SELECT * FROM audit_log WHERE action = 'recharge.configure'")
    assert row is not None
    assert row["details"]["consentedBy"] == "buyer@example.com"
    assert row["details"]["amount"] == "20"


async def test_without_a_card_it_is_suspended_and_says_so(shop: Shop) -> None:
    await shop.agree()
    await post(shop.pool, grant(shop.owner, 12))
    await post(shop.pool, usage(shop.owner, 5))
    await shop.charger.work()
    found = await shop.settings()
    assert (found.state, found.reason) == (RechargeState.SUSPENDED, "no_card")
    assert (await shop.attempt())["state"] == "canceled"
    await post(shop.pool, usage(shop.owner, 1))
    assert len(await shop.attempts()) == 1


async def test_a_soft_decline_waits_longer_each_time_and_the_third_suspends(shop: Shop) -> None:
    await shop.save_card("pm_card_chargeCustomerFail")
    await shop.agree()
    await post(shop.pool, grant(shop.owner, 12))
    await post(shop.pool, usage(shop.owner, 5))
    for hours in (1, 6):
        await shop.work()
        found = await shop.settings()
        assert found.state is RechargeState.ACTIVE
        assert found.not_before == shop.clock.now + timedelta(hours=hours)
        await post(shop.pool, usage(shop.owner, Decimal("0.1")))
        before = len(await shop.attempts())
        await shop.work()
        assert (await shop.attempt())["state"] == "armed"  # it waits, and nothing is tried
        assert len(await shop.attempts()) == before
        shop.clock.now += timedelta(hours=hours)
    await shop.work()
    found = await shop.settings()
    assert (found.state, found.reason) == (RechargeState.SUSPENDED, "declines")
    assert [row["state"] for row in await shop.attempts()] == ["failed"] * 3
    assert await shop.captures() == []


async def test_another_card_ends_a_suspension_for_declines(shop: Shop) -> None:
    await test_a_soft_decline_waits_longer_each_time_and_the_third_suspends(shop)
    async with shop.pool.acquire() as connection, connection.transaction():
        assert await service.card_changed(connection, shop.owner.id)
    found = await shop.settings()
    assert (found.state, found.declines_in_row, found.not_before) == ("active", 0, None)


async def test_a_declined_payment_can_never_be_paid_later(shop: Shop) -> None:
    await shop.save_card("pm_card_chargeCustomerFail")
    await shop.agree()
    await post(shop.pool, grant(shop.owner, 12))
    await post(shop.pool, usage(shop.owner, 5))
    await shop.work()
    intent_id = (await shop.attempt())["payment_intent_id"]
    intent = await shop.client.v1.payment_intents.retrieve_async(intent_id)
    assert intent.status == "canceled"


async def test_a_card_that_asks_for_the_customer_pauses_and_resumes_once_paid(shop: Shop) -> None:
    await shop.save_card("pm_card_authenticationRequired")
    await shop.agree()
    await post(shop.pool, grant(shop.owner, 12))
    await post(shop.pool, usage(shop.owner, 5))
    await shop.work()
    attempt = await shop.attempt()
    assert attempt["state"] == "requires_action"
    assert (await shop.settings()).state is RechargeState.PAUSED_REQUIRES_ACTION
    await post(shop.pool, usage(shop.owner, 1))
    assert len(await shop.attempts()) == 1
    assert await balance(shop.pool) == 6

    answer = await shop.charger.gateway.confirm_with_customer(
        attempt["payment_intent_id"], attempt["payment_method_id"], return_url="https://a.test/"
    )
    assert not isinstance(answer, OutcomeUnknown)
    await shop.sim(f"payment_intents/{attempt['payment_intent_id']}/authenticate", passed=True)
    await shop.work()
    assert (await shop.attempt())["state"] == "succeeded"
    assert (await shop.settings()).state is RechargeState.ACTIVE
    assert await balance(shop.pool) == 26
    assert await shop.captures() == [2000]


async def test_a_link_that_nobody_follows_ends_the_attempt_and_suspends(shop: Shop) -> None:
    await shop.save_card("pm_card_authenticationRequired")
    await shop.agree()
    await post(shop.pool, grant(shop.owner, 12))
    await post(shop.pool, usage(shop.owner, 5))
    await shop.work()
    shop.clock.now += timedelta(hours=24)
    await shop.work()
    assert (await shop.attempt())["state"] == "canceled"
    found = await shop.settings()
    assert (found.state, found.reason) == (RechargeState.SUSPENDED, "authentication_expired")
    intent_id = (await shop.attempt())["payment_intent_id"]
    assert (await shop.client.v1.payment_intents.retrieve_async(intent_id)).status == "canceled"


async def test_what_is_in_flight_counts_against_the_monthly_cap(shop: Shop) -> None:
    await shop.save_card()
    await shop.agree(replace(TOP, monthly_cap=Decimal(50)))
    await post(shop.pool, grant(shop.owner, 12))
    for _ in range(3):
        await post(shop.pool, usage(shop.owner, 20, may_overdraw=True))
        await shop.work()
    assert await shop.captures() == [2000, 2000]
    found = await shop.settings()
    assert (found.state, found.reason) == (RechargeState.SUSPENDED, "cap")
    assert found.suspended_until is not None
    async with shop.pool.acquire() as connection, connection.transaction():
        await service.tick(connection, now=found.suspended_until)
    assert (await shop.settings()).state is RechargeState.ACTIVE


@pytest.mark.parametrize(
    ("rule", "field_name"),
    [
        (replace(TOP, amount=Decimal("0.10")), "amount"),
        (replace(TOP, amount=Decimal(2_000_000)), "amount"),
        (replace(TOP, amount=Decimal("20.001")), "amount"),
        (replace(TOP, amount=None), "amount"),
        (replace(TOP, target=Decimal(30)), "amount"),
        (replace(TOP, amount=None, target=Decimal(5)), "target"),
        (replace(TOP, monthly_cap=Decimal(10)), "amount"),
        (replace(TOP, threshold=Decimal(-1)), "threshold"),
        (Rule(), "threshold"),
    ],
)
async def test_a_rule_that_could_never_charge_is_refused_when_it_is_saved(
    shop: Shop, rule: Rule, field_name: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        await shop.agree(rule)
    assert refused.value.errors
    assert refused.value.errors[0]["loc"] == ["body", field_name]


async def test_a_rule_that_is_older_than_the_operators_most_charges_no_more_than_that(
    shop: Shop,
) -> None:
    await shop.save_card()
    await shop.agree()
    await shop.pool.execute("UPDATE auto_recharges SET amount = NULL, target = 1e18")
    await post(shop.pool, grant(shop.owner, 12))
    await post(shop.pool, usage(shop.owner, 5))
    await replace(shop.charger, units_max=Decimal(50)).work()
    assert await shop.captures() == [5000]


async def suspend(shop: Shop, reason: SuspensionReason) -> None:
    async with shop.pool.acquire() as connection, connection.transaction():
        assert await service.suspend(connection, shop.owner.id, reason, "why", now=shop.clock())


async def turn_off(shop: Shop) -> None:
    async with shop.pool.acquire() as connection, connection.transaction():
        assert await service.turn_off(connection, shop.owner.id, actor="test", reason=None)


async def resume(shop: Shop) -> bool:
    async with shop.pool.acquire() as connection, connection.transaction():
        return await service.resume(connection, shop.owner.id, actor="test", reason=None)


async def standing(shop: Shop) -> tuple[Any, ...]:
    found = await shop.settings()
    below = await shop.pool.fetchval("SELECT recharge_below FROM accounts")
    return found.state, found.reason, found.detail, below


@pytest.mark.parametrize("reason", SuspensionReason)
async def test_off_and_on_again_ends_no_suspension_that_only_a_person_ends(
    shop: Shop, reason: SuspensionReason
) -> None:
    await shop.agree()
    await suspend(shop, reason)
    for _ in range(2):
        await turn_off(shop)
        assert await standing(shop) == ("off", None, None, None)
        await shop.agree()
        if reason in ENDED_BY_A_PERSON:
            assert await standing(shop) == ("suspended", reason, "why", None)
        else:
            assert await standing(shop) == ("active", None, None, 10)


async def test_a_suspension_that_outlasts_off_is_ended_by_a_person_while_it_is_off(
    shop: Shop,
) -> None:
    await shop.agree()
    await suspend(shop, SuspensionReason.FRAUD_WARNING)
    await turn_off(shop)
    async with shop.pool.acquire() as connection, connection.transaction():
        assert not await service.card_changed(connection, shop.owner.id)
    assert await resume(shop)
    assert await standing(shop) == ("off", None, None, None)
    assert not await resume(shop)
    await shop.agree()
    assert await standing(shop) == ("active", None, None, 10)


async def test_a_suspension_that_a_person_has_ended_does_not_come_back_with_off_and_on(
    shop: Shop,
) -> None:
    await shop.agree()
    await suspend(shop, SuspensionReason.OPERATOR)
    await turn_off(shop)
    await shop.agree()
    assert await resume(shop)
    await turn_off(shop)
    await shop.agree()
    assert await standing(shop) == ("active", None, None, 10)
