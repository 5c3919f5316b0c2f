"""Every live attempt has a deadline and a way out, and what waits for a customer gives way."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from shared.errors import ConflictError, NotFoundError, StripeFailedError
from shared.ids import new_id
from shared.recharge import cancellation, service
from shared.recharge.model import FINAL_STATES, AttemptState, Rule, Schedule
from shared.recharge.rules import ChargeAmount
from shared.recharge.states import DEADLINES, PROCESSING_MAX, TOP_UP_LIFETIME, UNANSWERED_MAX
from shared.recharge.top_ups.service import ToppedUp, top_up
from tests.fixtures.ledger import grant, post, usage
from tests.fixtures.product import balance
from tests.fixtures.recharging import TOP, Shop

CREATE: dict[str, Any] = {"method": "POST", "path": "/v1/payment_intents"}
CONFIRM: dict[str, Any] = {"method": "POST", "path": "/v1/payment_intents/*/confirm"}
ANY: dict[str, Any] = {"method": "*", "path": "/v1/payment_intents**"}
PRICE = ChargeAmount(2000, Decimal(20))
AWAY = ["unauthorized_401", "bad_parameter_400", "error_500", "refused", "rate_limited"]


async def tick(shop: Shop) -> None:
    async with shop.pool.acquire() as connection, connection.transaction():
        await service.tick(connection, now=shop.clock())


async def mend(shop: Shop) -> None:
    async with shop.session.delete("/_sim/faults") as cleared:
        assert cleared.status == 200


async def buy(shop: Shop) -> ToppedUp:
    return await top_up(shop.charger, shop.owner, PRICE, attempt_id=new_id(), actor="test")


async def states(shop: Shop) -> list[str]:
    return [row["state"] for row in await shop.attempts()]


async def another_card(shop: Shop, card: str = "pm_card_visa") -> None:
    await shop.pool.execute("UPDATE payment_methods SET detached_at = now()")
    await shop.save_card(card)


def test_every_state_that_is_no_end_has_a_deadline_and_a_way_out() -> None:
    assert set(DEADLINES) == set(AttemptState) - FINAL_STATES
    for found in DEADLINES.values():
        assert timedelta(0) < found.lasts_for_top_up <= found.lasts <= timedelta(days=30)
        assert found.ending


def test_the_page_of_states_lists_the_deadline_of_each() -> None:
    page = (Path(__file__).parents[2] / "docs/states.md").read_text(encoding="utf-8")
    table = page.partition("| State | Deadline |")[2].partition("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    listed = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert listed == set(DEADLINES)


@pytest.mark.parametrize("fault", AWAY)
async def test_what_could_not_be_created_for_a_day_is_canceled_and_armed_anew(
    shop: Shop, fault: str
) -> None:
    await shop.sim("faults", **CREATE, fault=fault, times=100)
    await shop.open()
    await shop.work()
    shop.clock.now += UNANSWERED_MAX
    await shop.work()
    assert await states(shop) == ["armed", "canceled"]
    await mend(shop)
    await shop.work()
    assert await states(shop) == ["succeeded", "canceled"]
    assert await shop.captures() == [2000]


@pytest.mark.parametrize("fault", AWAY)
async def test_what_was_not_confirmed_for_a_day_is_canceled_at_stripe_and_armed_anew(
    shop: Shop, fault: str
) -> None:
    await shop.sim("faults", **CONFIRM, fault=fault, times=100)
    await shop.open()
    await shop.work()
    shop.clock.now += UNANSWERED_MAX
    await mend(shop)
    await shop.work_until_settled()
    assert await states(shop) == ["succeeded", "canceled"]
    assert await shop.captures() == [2000]


@pytest.mark.parametrize("step", [CREATE, CONFIRM], ids=["create", "confirm"])
async def test_what_waits_for_us_is_not_charged_once_the_rule_was_suspended_meanwhile(
    shop: Shop, step: dict[str, Any]
) -> None:
    await shop.sim("faults", **step, fault="unauthorized_401", times=9)
    await shop.open()
    await shop.work()
    async with shop.pool.acquire() as connection, connection.transaction():
        await service.suspend_by_operator(
            connection, shop.owner.id, actor="ops", reason="stop", now=shop.clock()
        )
    await mend(shop)
    await shop.work()
    assert await states(shop) == ["canceled"]
    assert await shop.captures() == []


async def test_a_charge_that_went_through_unheard_is_credited_after_its_deadline(
    shop: Shop,
) -> None:
    await shop.sim("faults", **CONFIRM, fault="answer_lost")
    await shop.open()
    await shop.work()
    shop.clock.now += 2 * UNANSWERED_MAX
    await shop.work()
    assert await states(shop) == ["succeeded"]
    assert await balance(shop.pool) == 27


async def test_an_attempt_whose_payment_stripe_does_not_know_ends_and_is_armed_anew(
    shop: Shop,
) -> None:
    await shop.sim("faults", **CONFIRM, fault="answer_lost")
    await shop.open()
    await shop.work()
    await shop.pool.execute("UPDATE recharge_attempts SET payment_intent_id = 'pi_nobody_has'")
    await shop.work()
    assert await states(shop) == ["armed", "canceled"]


async def test_a_payment_that_its_bank_never_decides_is_given_up_after_a_month(shop: Shop) -> None:
    await shop.open("pm_usBankAccount_success")
    await shop.work()
    assert await states(shop) == ["processing"]
    shop.clock.now += PROCESSING_MAX - timedelta(hours=1)
    await shop.work()
    assert await states(shop) == ["processing"]
    shop.clock.now += timedelta(hours=1)
    await shop.work()
    assert (await states(shop))[-1] == "canceled"


@pytest.mark.parametrize("missing", ["customer", "payment_method"])
async def test_what_stripe_does_not_know_of_a_customer_is_forgotten_and_suspends_for_want_of_a_card(
    shop: Shop, missing: str
) -> None:
    await shop.open()
    column = {"customer": "customer_id", "payment_method": "id"}[missing]
    unknown = {"customer": "cus_nobody_has", "payment_method": "pm_nobody_has"}[missing]
    await shop.pool.execute(f"UPDATE payment_methods SET {column} = $1", unknown)  # noqa: S608
    await shop.pool.execute("UPDATE organizations SET stripe_customer_id = 'cus_nobody_has'")
    await shop.work()
    found = await shop.settings()
    assert (found.state, found.reason) == ("suspended", "no_card")
    assert (await shop.attempt())["reason"] == "resource_missing"
    kept = await shop.pool.fetchval("SELECT stripe_customer_id FROM organizations")
    assert kept == (None if missing == "customer" else "cus_nobody_has")
    on_file = "SELECT count(*) FROM payment_methods WHERE detached_at IS NULL"
    assert await shop.pool.fetchval(on_file) == 0


async def test_a_card_that_stripe_does_not_know_is_followed_by_another_that_is_on_file(
    shop: Shop,
) -> None:
    await shop.open()
    await shop.pool.execute("UPDATE payment_methods SET id = 'pm_nobody_has', is_default = TRUE")
    await shop.save_card()
    await shop.work()
    assert (await shop.settings()).state == "active"
    await tick(shop)
    await shop.work()
    assert await states(shop) == ["succeeded", "failed"]
    assert await shop.captures() == [2000]


@pytest.mark.parametrize("step", [CREATE, CONFIRM], ids=["create", "confirm"])
async def test_a_top_up_that_meets_our_own_fault_is_canceled(
    shop: Shop, step: dict[str, Any]
) -> None:
    await shop.save_card()
    await shop.agree()
    await post(shop.pool, grant(shop.owner, 50))
    await shop.sim("faults", **step, fault="unauthorized_401", times=9)
    done = await buy(shop)
    assert (done.attempt["state"], done.attempt["reason"]) == ("canceled", "stripe_error")
    await mend(shop)
    await shop.work()
    assert await shop.captures() == []
    assert (await shop.settings()).state == "active"


async def test_a_top_up_that_waits_for_its_customer_gives_way_to_the_rule_and_to_a_new_one(
    shop: Shop,
) -> None:
    """M12."""
    await shop.save_card("pm_card_authenticationRequired")
    await shop.agree()
    await post(shop.pool, grant(shop.owner, 12))
    left = await buy(shop)
    assert left.attempt["state"] == "requires_action"
    await another_card(shop)
    replaced = await buy(shop)
    assert replaced.attempt["state"] == "succeeded"
    assert await states(shop) == ["succeeded", "canceled"]
    intent = await shop.client.v1.payment_intents.retrieve_async(left.attempt["payment_intent_id"])
    assert intent.status == "canceled"

    await another_card(shop, "pm_card_authenticationRequired")
    assert (await buy(shop)).attempt["state"] == "requires_action"
    await another_card(shop)
    await post(shop.pool, usage(shop.owner, 25))
    await tick(shop)
    await shop.work()
    await shop.work()
    rows = await shop.attempts()
    assert [(row["trigger"], row["state"]) for row in rows[:2]] == [
        ("threshold", "succeeded"),
        ("top_up", "canceled"),
    ]
    assert await shop.captures() == [2000, 2000]


async def test_a_top_up_that_was_authenticated_meanwhile_is_not_replaced(shop: Shop) -> None:
    await shop.save_card("pm_card_authenticationRequired")
    left = await buy(shop)
    intent_id = left.attempt["payment_intent_id"]
    await shop.sim(f"payment_intents/{intent_id}/authenticate", passed=True)
    with pytest.raises(ConflictError):
        await buy(shop)
    await shop.work()
    assert await states(shop) == ["succeeded"]
    assert await shop.captures() == [2000]


async def test_a_top_up_waits_thirty_minutes_for_its_customer(shop: Shop) -> None:
    await shop.save_card("pm_card_authenticationRequired")
    await buy(shop)
    expires_at = (await shop.attempt())["link_expires_at"]
    assert expires_at == shop.clock() + TOP_UP_LIFETIME


async def cancel(shop: Shop) -> Any:
    attempt_id = (await shop.attempt())["id"]
    return await cancellation.cancel(
        shop.charger, shop.owner.id, attempt_id, actor="ops", reason="asked to"
    )


@pytest.mark.parametrize(
    ("card", "fault", "state"),
    [
        ("pm_card_visa", None, "armed"),
        ("pm_card_visa", {**CREATE, "fault": "unauthorized_401"}, "charging"),
        ("pm_card_visa", {**CREATE, "fault": "answer_lost"}, "unknown"),
        ("pm_card_visa", {**CONFIRM, "fault": "refused"}, "unknown"),
        ("pm_card_authenticationRequired", None, "requires_action"),
        ("pm_usBankAccount_success", None, "processing"),
    ],
)
async def test_an_attempt_in_any_live_state_can_be_canceled_and_the_rule_waits_for_usage(
    shop: Shop, card: str, fault: dict[str, Any] | None, state: str
) -> None:
    if fault is not None:
        await shop.sim("faults", **fault)
    await shop.open(card)
    if state != "armed":
        await shop.work()
    assert await states(shop) == [state]
    assert (await cancel(shop))["state"] == "canceled"
    assert (await cancel(shop))["state"] == "canceled"
    await tick(shop)
    await shop.work()
    assert await states(shop) == ["canceled"]
    assert (await shop.settings()).state == "active"
    assert await shop.captures() == []
    logged = await shop.pool.fetchval(
        "SELECT count(*) FROM audit_log WHERE action = 'recharge.cancel' AND reason = 'asked to'"
    )
    assert logged == 1


async def test_a_cancellation_that_cannot_be_audited_is_rolled_back(shop: Shop) -> None:
    await shop.open()
    await shop.pool.execute("ALTER TABLE audit_log ADD CONSTRAINT refuses CHECK (actor <> 'ops')")
    with pytest.raises(asyncpg.CheckViolationError):
        await cancel(shop)
    assert await states(shop) == ["armed"]


async def test_an_attempt_that_was_captured_or_that_stripe_does_not_answer_is_not_canceled(
    shop: Shop,
) -> None:
    await shop.sim("faults", **CONFIRM, fault="answer_lost")
    await shop.open()
    await shop.work()
    await shop.sim("faults", **ANY, fault="unauthorized_401")
    with pytest.raises(StripeFailedError):
        await cancel(shop)
    with pytest.raises(ConflictError):
        await cancel(shop)
    await shop.work()
    assert await states(shop) == ["succeeded"]
    with pytest.raises(ConflictError):
        await cancel(shop)
    with pytest.raises(NotFoundError):
        await cancellation.cancel(
            shop.charger, shop.owner.id, new_id(), actor="ops", reason="asked to"
        )


async def test_a_schedule_that_is_due_stays_due_whatever_else_is_edited(shop: Shop) -> None:
    """M17."""
    rule = Rule(schedule=Schedule.MONTHLY, schedule_day=1, schedule_amount=Decimal(30))
    await shop.save_card()
    await shop.agree(rule)
    shop.clock.now += timedelta(days=32)
    due = (await shop.settings()).next_run_at
    await shop.agree(replace(rule, monthly_cap=Decimal(500)))
    assert (await shop.settings()).next_run_at == due
    await tick(shop)
    await shop.work()
    assert await shop.captures() == [3000]
    before = (await shop.settings()).next_run_at
    await shop.agree(replace(rule, schedule_day=2))
    assert (await shop.settings()).next_run_at != before


async def test_what_is_on_hold_counts_as_spent_when_it_is_decided_what_to_charge(
    shop: Shop,
) -> None:
    await shop.save_card()
    await shop.agree(replace(TOP, amount=None, target=Decimal(50)))
    await post(shop.pool, grant(shop.owner, 100))
    await shop.pool.execute("UPDATE accounts SET held = 95")
    await tick(shop)
    await shop.work()
    assert await shop.captures() == [4500]


async def test_after_something_was_taken_back_the_clock_arms_nothing(shop: Shop) -> None:
    await shop.save_card()
    await shop.agree()
    await shop.pool.execute("UPDATE accounts SET recharge_waits = TRUE")
    await tick(shop)
    assert await states(shop) == []


@pytest.mark.parametrize(
    ("rule", "charged"),
    [(replace(TOP, amount=None, target=Decimal(50)), [3800]), (TOP, [2000])],
)
async def test_a_debit_that_was_refused_above_the_threshold_is_charged_for(
    shop: Shop, rule: Rule, charged: list[int]
) -> None:
    """M6, from where the refusal has armed it: balance 12, threshold 10, usage of 15."""
    await shop.save_card()
    await shop.agree(rule)
    await post(shop.pool, grant(shop.owner, 12))
    await shop.pool.execute(
        "INSERT INTO recharge_attempts (organization_id, id, created_at, needed)"
        " VALUES ($1, $2, now(), 15)",
        shop.owner.id, new_id(),
    )  # fmt: skip
    await shop.work()
    assert await shop.captures() == charged
    row = await shop.attempt()
    assert (row["state"], row["credits_per_unit"]) == ("succeeded", 1)
