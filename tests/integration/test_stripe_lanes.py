"""Requests to Stripe in lanes: what others cause takes no rate limit and no time of charges."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import pytest_asyncio

from api.framework.receipts import REQUESTS_BURST, Receipts
from shared.errors import RateLimitError, StripeFailedError, StripeThrottledError
from shared.payments.gateway import LIMITS, StripeGateway, StripeLane, stripe_gateway
from shared.payments.payment_intents import ChargeRequest, Intent, PaymentIntentGateway, TryLater
from shared.payments.receipts import invoice_url
from tests.fixtures.api import ApiClient
from tests.fixtures.product import POOL_SIZE, connections, until
from tests.fixtures.recharging import Shop

if TYPE_CHECKING:
    from sandbox.stripe.process import SimulatorProcess
    from shared.payments.lookup import StripeLookup

FEW = replace(LIMITS[StripeLane.READS], at_once_max=2, per_second=0.01, burst=3, wait_seconds_max=0)


@pytest_asyncio.fixture
async def gateway(stand_in: SimulatorProcess, shop: Shop) -> AsyncIterator[StripeGateway]:
    """Give a way to the simulator on which few reads are let through."""
    limits = {**LIMITS, StripeLane.READS: FEW}
    async with stripe_gateway("sk_test_123", stand_in.url, limits=limits) as gateway:
        yield gateway
    async with shop.session.delete("/_sim/faults") as answer:
        assert answer.status == 200


async def sent(shop: Shop, path: str) -> int:
    """Count the requests that Stripe got about a path."""
    async with shop.session.get("/_sim/requests") as answer:
        requests = (await answer.json())["data"]
    return sum(request["path"].startswith(path) for request in requests)


async def charge(gateway: StripeGateway, shop: Shop) -> object:
    customer_id = await shop.save_card()
    (method,) = await shop.pool.fetch("SELECT id, type FROM payment_methods")
    asked = ChargeRequest(
        attempt_id=uuid4(),
        organization_id=shop.owner.id,
        trigger="usage",
        amount_minor=1000,
        currency="usd",
        customer_id=customer_id,
        payment_method_id=method["id"],
        payment_method_type=method["type"],
    )
    return await PaymentIntentGateway(gateway.charges).create(asked, key=str(uuid4()))


async def read(gateway: StripeGateway, name: str) -> str | None:
    return await invoice_url(gateway.reads, f"in_{name}", "")


async def test_reads_beyond_their_budget_never_reach_stripe_and_charges_do(
    gateway: StripeGateway, shop: Shop
) -> None:
    name = uuid4().hex
    reads = await asyncio.gather(*(read(gateway, name) for _ in range(20)), return_exceptions=True)
    refused = [error for error in reads if isinstance(error, StripeThrottledError)]
    assert all(error.retry_after_seconds for error in refused)
    assert await sent(shop, f"/v1/invoices/in_{name}") == 20 - len(refused) <= FEW.burst
    assert isinstance(await charge(gateway, shop), Intent)


async def test_reads_that_stripe_does_not_answer_hold_up_no_charge(
    gateway: StripeGateway, shop: Shop
) -> None:
    """The reads are still unanswered when the charge is made."""
    name = uuid4().hex
    path = f"/v1/invoices/in_{name}"
    await shop.sim("faults", path=path, fault="slow", seconds=60, times=5)
    reads = [asyncio.create_task(read(gateway, name)) for _ in range(2)]
    await asyncio.sleep(0)
    assert isinstance(await charge(gateway, shop), Intent)
    assert not any(task.done() for task in reads)
    for task in reads:
        task.cancel()
    await asyncio.gather(*reads, return_exceptions=True)


async def test_a_request_that_stripe_never_answers_ends_at_the_deadline_of_its_lane(
    stand_in: SimulatorProcess, shop: Shop
) -> None:
    await shop.sim("faults", path="/v1/invoices/*", fault="slow", seconds=60)
    limits = {**LIMITS, StripeLane.READS: replace(FEW, answer_seconds_max=0.1)}
    async with stripe_gateway("sk_test_123", stand_in.url, limits=limits) as gateway:
        with pytest.raises(StripeFailedError, match="did not answer"):
            await read(gateway, "frozen")
    async with shop.session.delete("/_sim/faults") as answer:
        assert answer.status == 200


async def test_when_stripe_says_429_the_other_lanes_pause_and_charges_go_on(
    gateway: StripeGateway, shop: Shop
) -> None:
    name = uuid4().hex
    path = f"/v1/invoices/in_{name}"
    await shop.sim("faults", path=path, fault="rate_limited", retry_after=30)
    with pytest.raises(StripeThrottledError) as first:
        await read(gateway, name)
    assert first.value.retry_after_seconds == 30
    with pytest.raises(StripeThrottledError):
        await invoice_url(gateway.questions, f"in_{name}", "")
    assert await sent(shop, path) <= 1
    assert isinstance(await charge(gateway, shop), Intent)


async def test_a_charge_that_finds_its_lane_full_is_nobodys_failure(
    stand_in: SimulatorProcess, shop: Shop
) -> None:
    limits = {**LIMITS, StripeLane.CHARGES: replace(FEW, burst=1)}
    async with stripe_gateway("sk_test_123", stand_in.url, limits=limits) as gateway:
        assert isinstance(await charge(gateway, shop), Intent)
        assert isinstance(await PaymentIntentGateway(gateway.charges).retrieve("pi_1"), TryLater)


async def test_a_receipt_is_asked_for_once_and_takes_no_connection_meanwhile(
    paying_client: ApiClient, shop: Shop
) -> None:
    await shop.save_card()
    await paying_client.post("/v1/billing/acme/top-up", {"amount": 20})
    (row,) = (await paying_client.get("/api/v1/org/acme/credits/transactions")).json
    await shop.pool.execute("UPDATE stripe_payments SET receipt_url = NULL")
    intent = await shop.pool.fetchval("SELECT payment_intent_id FROM stripe_payments")
    path = f"/v1/payment_intents/{intent}"
    before = await sent(shop, path)
    await shop.sim("faults", path=path, fault="slow", seconds=1)
    url = f"/api/v1/org/acme/credits/transactions/{row['id']}/receipt"
    asking = [asyncio.create_task(paying_client.get(url)) for _ in range(5)]

    async def stripe_has_it() -> bool:
        async with shop.session.get("/_sim/faults") as answer:
            return bool((await answer.json())["data"][-1]["used"] == 1)

    await until(stripe_has_it)
    async with asyncio.timeout(30), connections(shop.pool, POOL_SIZE):
        assert not any(task.done() for task in asking)
    answers: list[Any] = await asyncio.gather(*asking)
    await shop.pool.execute("UPDATE stripe_payments SET receipt_url = NULL")
    answers.append(await paying_client.get(url))
    assert {answer.status for answer in answers} == {200}
    assert await sent(shop, path) == before + 1


async def test_a_key_has_stripe_asked_for_so_many_receipts_and_another_key_for_as_many(
    lookup: StripeLookup,
) -> None:
    receipts = Receipts(lookup.client)
    greedy = uuid4()
    for _ in range(REQUESTS_BURST):
        receipts.take(greedy)
    with pytest.raises(RateLimitError) as refused:
        receipts.take(greedy)
    assert refused.value.retry_after_seconds == 1
    receipts.take(uuid4())
