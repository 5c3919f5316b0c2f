"""A customer tops up while here: charged once, credited once, whatever is lost or dies."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import pytest

from sandbox.product import WebProcess
from sandbox.stripe.process import SimulatorProcess
from shared.access import service as access
from shared.errors import ConflictError, NoPaymentMethodError
from shared.ids import new_id
from shared.payments.payment_intents import ChargeRequest, GatewayAnswer, PaymentIntentGateway
from shared.recharge import service
from shared.recharge.attempts import store as attempt_store
from shared.recharge.flow import LEASE
from shared.recharge.model import Rule, Schedule
from shared.recharge.rules import ChargeAmount
from shared.recharge.states import TOP_UP_LIFETIME
from shared.recharge.top_ups.service import ToppedUp, top_up
from tests.fixtures.ledger import grant, post, usage
from tests.fixtures.product import Serve, balance, environment, transactions, until
from tests.fixtures.recharging import TOP, Shop
from worker.drainer import Drainer

PRICE = ChargeAmount(2000, Decimal(20))
CONFIRM: dict[str, Any] = {"method": "POST", "path": "/v1/payment_intents/*/confirm"}
CREATE: dict[str, Any] = {"method": "POST", "path": "/v1/payment_intents"}


async def buy(shop: Shop, attempt_id: UUID | None = None) -> ToppedUp:
    return await top_up(
        shop.charger, shop.owner, PRICE, attempt_id=attempt_id or new_id(), actor="test"
    )


async def is_bought_once(shop: Shop) -> None:
    (row,) = await transactions(shop.pool)
    assert (row["type"], row["description"], row["amount"]) == ("purchase", "Top-up", 20)
    assert await shop.captures() == [2000]
    assert await balance(shop.pool) == 20
    assert await shop.messages() == ["purchase.completed"]


@pytest.mark.parametrize("lost", [None, CREATE, CONFIRM])
@pytest.mark.parametrize("fault", ["webhook_first", "duplicated", "shuffled", "never_generated"])
async def test_the_webhook_and_the_answer_post_the_same_purchase_and_tell_of_it_once(
    shop: Shop, serve: Serve, drainer: Drainer, fault: str, lost: dict[str, Any] | None
) -> None:
    hook = await shop.client.v1.webhook_endpoints.create_async(
        {"url": "https://not.known.yet", "enabled_events": ["*"]}
    )
    endpoint = await serve(shop.pool, STRIPE_WEBHOOK_SECRETS=hook.secret or "")
    await shop.client.v1.webhook_endpoints.update_async(hook.id, {"url": endpoint.url})
    await shop.add_endpoint()
    await shop.save_card()
    await shop.sim("faults", event="payment_intent.*", fault=fault, times=9, seed=7)
    if lost is not None:
        await shop.sim("faults", **lost, fault="answer_lost")
    await buy(shop)
    for _ in range(3):
        await shop.sim("deliveries/flush")
        await drainer.drain()
        await shop.work()
    await shop.client.v1.webhook_endpoints.delete_async(hook.id)
    assert (await shop.attempt())["state"] == "succeeded"
    await is_bought_once(shop)


async def test_asked_again_under_the_same_id_it_charges_nothing(shop: Shop) -> None:
    await shop.add_endpoint()
    await shop.save_card()
    attempt_id = new_id()
    first, second = await buy(shop, attempt_id), await buy(shop, attempt_id)
    assert first.attempt["id"] == second.attempt["id"] == attempt_id
    assert second.attempt["state"] == "succeeded"
    await is_bought_once(shop)


async def test_two_at_once_charge_one_of_them(shop: Shop) -> None:
    asked, other_is_over = asyncio.Event(), asyncio.Event()

    class Held(PaymentIntentGateway):
        async def create(self, charge: ChargeRequest, *, key: str) -> GatewayAnswer:
            asked.set()
            await other_is_over.wait()
            return await super().create(charge, key=key)

    await shop.add_endpoint()
    await shop.save_card()
    held = replace(shop.charger, gateway=Held(shop.client))
    first = asyncio.create_task(top_up(held, shop.owner, PRICE, attempt_id=new_id(), actor="test"))
    await asked.wait()
    with pytest.raises(ConflictError):
        await buy(shop)
    other_is_over.set()
    assert (await first).attempt["state"] == "succeeded"
    await is_bought_once(shop)


async def live(shop: Shop) -> list[tuple[str, str]]:
    rows = await shop.attempts()
    return [(row["trigger"], row["state"]) for row in rows if row["settled_at"] is None]


async def test_an_attempt_that_a_worker_carries_is_a_conflict_and_is_left_alone(
    shop: Shop,
) -> None:
    await shop.open()
    async with shop.pool.acquire() as connection:
        (taken,) = await attempt_store.claim(connection, rows_max=1, token=new_id(), lease=LEASE)
    assert taken.attempt.state == "armed"
    with pytest.raises(ConflictError):
        await buy(shop)
    assert await live(shop) == [("threshold", "armed")]


@pytest.mark.parametrize("step", [CREATE, CONFIRM])
async def test_an_attempt_of_which_stripe_was_asked_is_a_conflict_and_is_left_alone(
    shop: Shop, step: dict[str, Any]
) -> None:
    await shop.open()
    await shop.sim("faults", **step, fault="answer_lost")
    await shop.work()
    with pytest.raises(ConflictError):
        await buy(shop)
    assert await live(shop) == [("threshold", "unknown")]
    await shop.work()
    assert (await buy(shop)).attempt["state"] == "succeeded"
    assert await shop.captures() == [2000, 2000]


async def test_an_attempt_that_waits_after_a_decline_gives_way(shop: Shop) -> None:
    await shop.open("pm_card_chargeCustomerFail")
    await shop.work()
    await post(shop.pool, usage(shop.owner, 1))
    await shop.work()
    assert await live(shop) == [("threshold", "armed")]
    await shop.pool.execute("UPDATE payment_methods SET detached_at = now()")
    await shop.save_card()
    assert (await buy(shop)).attempt["state"] == "succeeded"
    (gave_way,) = [row for row in await shop.attempts() if row["state"] == "canceled"]
    assert gave_way["detail"] == "the customer tops up by hand"
    assert await shop.captures() == [2000]


async def test_what_gave_way_and_is_still_needed_is_armed_again(shop: Shop) -> None:
    await shop.open(rule=replace(TOP, threshold=Decimal(50)))
    await buy(shop)
    assert await live(shop) == []
    async with shop.pool.acquire() as connection, connection.transaction():
        await service.tick(connection, now=shop.clock())
    assert await live(shop) == [("threshold", "armed")]


async def test_a_schedule_that_gave_way_runs_once_afterwards(shop: Shop) -> None:
    await shop.save_card()
    await shop.agree(Rule(schedule=Schedule.WEEKLY, schedule_day=1, schedule_amount=Decimal(30)))
    shop.clock.now += timedelta(days=8)

    async def tick() -> None:
        async with shop.pool.acquire() as connection, connection.transaction():
            await service.tick(connection, now=shop.clock())

    await tick()
    assert await live(shop) == [("schedule", "armed")]
    await buy(shop)
    assert await live(shop) == []
    await shop.pool.execute("UPDATE auto_recharges SET not_before = NULL")
    await tick()
    await shop.work()
    await tick()
    assert await live(shop) == []
    assert sorted(await shop.captures()) == [2000, 3000]


async def test_a_top_up_without_a_card_ends_no_attempt_that_waits(shop: Shop) -> None:
    await shop.agree()
    await post(shop.pool, grant(shop.owner, 12), usage(shop.owner, 5))
    with pytest.raises(NoPaymentMethodError):
        await buy(shop)
    assert await live(shop) == [("threshold", "armed")]


async def test_without_a_card_nothing_is_written_down(shop: Shop) -> None:
    with pytest.raises(NoPaymentMethodError):
        await buy(shop)
    assert await shop.attempts() == []


async def test_what_nobody_authenticates_ends_and_stops_no_rule(shop: Shop) -> None:
    await shop.save_card("pm_card_authenticationRequired")
    await shop.agree()
    await post(shop.pool, grant(shop.owner, 12))
    done = await buy(shop)
    assert done.url is not None
    assert (await shop.settings()).state == "active"
    shop.clock.now += TOP_UP_LIFETIME + timedelta(minutes=1)
    await shop.work_until_settled()
    assert (await shop.attempt())["state"] == "canceled"
    assert (await shop.settings()).state == "active"
    assert await shop.captures() == []


async def test_a_charge_that_stripe_refuses_to_make_stops_no_rule(shop: Shop) -> None:
    await shop.save_card()
    await shop.agree()
    card = await shop.pool.fetchval("SELECT id FROM payment_methods")
    await shop.client.v1.payment_methods.detach_async(card)  # and its webhook is still to come
    done = await buy(shop)
    assert (done.attempt["state"], done.url) == ("failed", None)
    assert (await shop.settings()).state == "active"


async def test_it_counts_for_no_cap(shop: Shop) -> None:
    await shop.open(rule=replace(TOP, monthly_cap=Decimal(25)))
    await shop.work()
    await buy(shop)
    assert (await shop.settings()).state == "active"


async def has_an_intent(shop: Shop) -> bool:
    kept = await shop.pool.fetchval("SELECT count(payment_intent_id) FROM recharge_attempts")
    return bool(kept)


async def test_a_web_process_that_is_killed_meanwhile_leaves_a_charge_that_is_made_once(
    shop: Shop,
    stand_in: SimulatorProcess,
    database_url: str,
    redis_url: str,
    tmp_path: Path,
) -> None:
    await shop.add_endpoint()
    await shop.save_card()
    async with shop.pool.acquire() as connection:
        key = await access.create_key(connection, name="k", scope="write", organization_id=None)
    found = environment(database_url, redis_url) | {"STRIPE_API_BASE": stand_in.url}
    web = WebProcess(found, tmp_path / "web.log")
    await web.start()
    await shop.sim("faults", **CONFIRM, fault="slow", seconds=30)
    url = f"{web.url}/v1/billing/acme/top-up"
    headers = {"Authorization": f"Bearer {key['key']}", "Idempotency-Key": "t"}
    asked = asyncio.create_task(shop.session.post(url, json={"amount": 20}, headers=headers))
    await until(lambda: has_an_intent(shop))
    web.kill()
    await web.wait()
    with pytest.raises(aiohttp.ClientError):
        await asked
    async with shop.session.delete("/_sim/faults") as cleared:
        assert cleared.status == 200
    await shop.work_until_settled()
    await web.start()
    # The claim of the dead request holds for its lease; the same id is what a later try gets.
    again = await shop.session.post(url, json={"amount": 20}, headers=headers)
    assert again.status == 409
    await shop.pool.execute("UPDATE idempotent_requests SET locked_until = now()")
    again = await shop.session.post(url, json={"amount": 20}, headers=headers)
    assert (again.status, (await again.json())["state"]) == (200, "succeeded")
    await web.stop()
    await is_bought_once(shop)
