"""Every fault at every point of an attempt, against the Stripe simulator: captured once."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.stripe.process import SimulatorProcess
from shared.payments.client import stripe_client
from shared.payments.payment_intents import ChargeRequest, GatewayAnswer, PaymentIntentGateway
from shared.recharge.model import RechargeState
from tests.fixtures.ledger import post, usage
from tests.fixtures.product import Serve, balance, transactions, until
from tests.fixtures.recharging import Shop

if TYPE_CHECKING:
    from worker.drainer import Drainer

INTENTS = "/v1/payment_intents"
POINTS: dict[str, dict[str, Any]] = {
    "create": {"method": "POST", "path": INTENTS},
    "confirm": {"method": "POST", "path": f"{INTENTS}/*/confirm"},
    "retrieve": {"method": "GET", "path": f"{INTENTS}/*"},
    "cancel": {"method": "POST", "path": f"{INTENTS}/*/cancel"},
}
FAULTS: dict[str, dict[str, Any]] = {
    "answer_lost": {"fault": "answer_lost"},
    "cut_mid_body": {"fault": "cut_mid_body"},
    "error_500": {"fault": "error_500"},
    "error_500_after": {"fault": "error_500_after"},
    "rate_limited": {"fault": "rate_limited"},
    "rate_limited_retry_after": {"fault": "rate_limited", "retry_after": 30},
    "refused": {"fault": "refused"},
    "conflict_409": {"fault": "conflict_409"},
    "slow": {"fault": "slow", "seconds": 2},
}
SECONDS_MAX = 0.5  # how long the client waits where an answer is slow
WEBHOOKS = ["webhook_first", "duplicated", "shuffled", "dropped", "never_generated"]
DECLINED = "pm_card_chargeCustomerFail"


@pytest.fixture
async def hurried(shop: Shop, stand_in: SimulatorProcess) -> Any:
    """Give a shop whose client does not wait long."""
    async with stripe_client("sk_test_123", stand_in.url, seconds_max=SECONDS_MAX) as client:
        shop.charger = replace(shop.charger, gateway=PaymentIntentGateway(client))
        yield shop


async def reach(shop: Shop, point: str) -> None:
    """Have the attempt come to this point: Stripe is asked only about what is not known."""
    if point == "retrieve":
        await shop.sim("faults", **POINTS["confirm"], fault="answer_lost")


async def is_captured_once(shop: Shop) -> None:
    assert [row["state"] for row in await shop.attempts()] == ["succeeded"]
    assert await shop.captures() == [2000]
    assert await balance(shop.pool) == 27
    assert [row["type"] for row in await transactions(shop.pool)].count("recharge") == 1


async def used(shop: Shop) -> list[int]:
    async with shop.session.get("/_sim/faults") as answer:
        return [fault["used"] for fault in (await answer.json())["data"]]


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("fault", [name for name in FAULTS if name != "slow"])
@pytest.mark.parametrize("point", ["create", "confirm", "retrieve"])
async def test_a_fault_is_survived_and_charges_once(
    shop: Shop, point: str, fault: str, times: int
) -> None:
    await reach(shop, point)
    await shop.sim("faults", **POINTS[point], **FAULTS[fault], times=times)
    await shop.open()
    await shop.work_until_settled()
    assert all(await used(shop))
    await is_captured_once(shop)


@pytest.mark.parametrize("point", ["create", "confirm", "retrieve"])
async def test_an_answer_later_than_the_client_waits_is_survived_and_charges_once(
    hurried: Shop, point: str
) -> None:
    await reach(hurried, point)
    await hurried.sim("faults", **POINTS[point], **FAULTS["slow"])
    await hurried.open()

    async def has_settled() -> bool:  # Stripe answers 409 while it works on the first request
        await hurried.work()
        return (await hurried.attempt())["settled_at"] is not None

    await until(has_settled)
    assert all(await used(hurried))
    await is_captured_once(hurried)


async def is_declined_once(shop: Shop) -> None:
    """Check that the decline counts, and that nothing is tried before its wait is over."""
    assert [row["state"] for row in await shop.attempts()] == ["failed"]
    assert (await shop.attempt())["decline_code"] == "generic_decline"
    found = await shop.settings()
    assert (found.state, found.declines_in_row) == (RechargeState.ACTIVE, 1)
    assert found.not_before == shop.clock.now + timedelta(hours=1)
    await post(shop.pool, usage(shop.owner, Decimal("0.1")))
    await shop.work()
    assert [row["state"] for row in await shop.attempts()] == ["armed", "failed"]
    assert await shop.captures() == []


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("fault", [name for name in FAULTS if name != "slow"])
@pytest.mark.parametrize("point", ["create", "confirm", "retrieve", "cancel"])
async def test_a_decline_counts_once_whatever_happens_to_its_answers(
    shop: Shop, point: str, fault: str, times: int
) -> None:
    await reach(shop, point)
    await shop.sim("faults", **POINTS[point], **FAULTS[fault], times=times)
    await shop.open(DECLINED)
    await shop.work_until_settled()
    await is_declined_once(shop)


async def test_a_slow_cancellation_of_a_declined_payment_counts_the_decline_once(
    hurried: Shop,
) -> None:
    await hurried.sim("faults", **POINTS["cancel"], **FAULTS["slow"])
    await hurried.open(DECLINED)
    await hurried.work_until_settled()
    await is_declined_once(hurried)


@pytest.mark.parametrize("fault", [name for name in FAULTS if name != "slow"])
async def test_a_link_that_expires_suspends_whatever_happens_to_the_cancellation(
    shop: Shop, fault: str
) -> None:
    await shop.open("pm_card_authenticationRequired")
    await shop.work()
    assert (await shop.attempt())["state"] == "requires_action"
    await shop.sim("faults", **POINTS["cancel"], **FAULTS[fault])
    shop.clock.now += timedelta(hours=24)
    await shop.work_until_settled()
    assert [row["state"] for row in await shop.attempts()] == ["canceled"]
    found = await shop.settings()
    assert (found.state, found.reason) == (RechargeState.SUSPENDED, "authentication_expired")


@pytest.mark.parametrize("fault", [name for name in FAULTS if name != "slow"])
async def test_a_customer_keeps_the_page_while_stripe_does_not_answer(
    shop: Shop, fault: str
) -> None:
    await shop.open("pm_card_authenticationRequired")
    await shop.work()
    before = await shop.attempt()
    await shop.sim("faults", **POINTS["retrieve"], **FAULTS[fault])
    for _ in range(2):
        await shop.work()
        after = await shop.attempt()
        for name in ("state", "link_sha256", "link_expires_at"):
            assert after[name] == before[name]
    assert await used(shop) == [1]


@pytest.mark.parametrize("first", [None, "answer_lost", "error_500"])
async def test_a_card_that_is_removed_before_it_is_charged_ends_the_attempt_and_tells(
    shop: Shop, first: str | None
) -> None:
    """Stripe refuses to confirm for ever: the attempt must not live for ever."""

    class Removing(PaymentIntentGateway):
        async def create(self, charge: ChargeRequest, *, key: str) -> GatewayAnswer:
            answer = await super().create(charge, key=key)
            await shop.client.v1.payment_methods.detach_async(charge.payment_method_id)
            return answer

    shop.charger = replace(shop.charger, gateway=Removing(shop.client))
    if first is not None:
        await shop.sim("faults", **POINTS["confirm"], fault=first)
    await shop.open()
    await shop.work_until_settled()
    attempt = await shop.attempt()
    assert attempt["state"] == "failed"
    intent = await shop.client.v1.payment_intents.retrieve_async(attempt["payment_intent_id"])
    assert intent.status == "canceled"
    found = await shop.settings()
    assert (found.state, found.reason) == (RechargeState.SUSPENDED, "no_card")


@pytest.mark.parametrize("lost", ["create", "confirm"])
async def test_a_key_that_stripe_has_forgotten_charges_no_second_time(
    shop: Shop, lost: str
) -> None:
    await shop.sim("faults", **POINTS[lost], fault="answer_lost")
    await shop.open()
    await shop.work()
    await shop.sim("clock/advance", seconds=25 * 3600)
    await shop.work_until_settled()
    await is_captured_once(shop)


@pytest.mark.parametrize("lost", [None, "create", "confirm"])
@pytest.mark.parametrize("fault", WEBHOOKS)
@pytest.mark.parametrize("card", ["pm_card_visa", DECLINED])
async def test_a_webhook_may_come_first_twice_late_or_never(
    shop: Shop, serve: Serve, drainer: Drainer, fault: str, lost: str | None, card: str
) -> None:
    hook = await shop.client.v1.webhook_endpoints.create_async(
        {"url": "https://not.known.yet", "enabled_events": ["*"]}
    )
    endpoint = await serve(shop.pool, STRIPE_WEBHOOK_SECRETS=hook.secret or "")
    await shop.client.v1.webhook_endpoints.update_async(hook.id, {"url": endpoint.url})
    await shop.sim("faults", event="payment_intent.*", fault=fault, times=9, seed=7)
    if lost is not None:
        await shop.sim("faults", **POINTS[lost], fault="answer_lost")
    await shop.open(card)
    for _ in range(3):
        await shop.work()
        await shop.sim("deliveries/flush")
        await drainer.drain()
    await shop.client.v1.webhook_endpoints.delete_async(hook.id)
    if card == DECLINED:
        await is_declined_once(shop)
    else:
        await is_captured_once(shop)
    dead = await shop.pool.fetch("SELECT id FROM stripe_events WHERE state IN ('dead', 'retrying')")
    assert dead == []
