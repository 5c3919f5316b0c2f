"""Refunds and the credits they take back: whatever the events, the level is what Stripe says."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from sandbox.signed_events import event
from sandbox.stripe.process import SimulatorProcess
from shared.events.service import Applier
from shared.inbox import store
from shared.payments.client import stripe_client
from shared.payments.lookup import StripeLookup
from shared.payments.model import SaleTerms
from shared.replay.service import Replayer
from tests.fixtures.product import (
    LEASE,
    balance,
    create_organization,
    event_states,
    payment,
    receive,
    transactions,
)
from tests.fixtures.reversals import (
    DISPUTE_TYPES,
    REFUND_TYPES,
    changed,
    listen,
    message_types,
    types,
)
from tests.integration.events import apply, session
from worker.drainer import Drainer

if TYPE_CHECKING:
    from pathlib import Path

    from shared.db.pool import Pool
    from shared.organizations.model import Organization
    from tests.fixtures.stripe_answers import StripeAnswers


# Refunds


@pytest.mark.parametrize("event_type", REFUND_TYPES)
async def test_any_event_of_a_refund_takes_back_what_stripe_says_was_refunded(
    pool: Pool,
    organization: Organization,
    asking: Drainer,
    stripe_answers: StripeAnswers,
    event_type: str,
) -> None:
    stripe_answers.pay()
    await apply(pool, asking, payment("1"))
    stripe_answers.refund(450)
    await apply(pool, asking, changed(event_type))
    assert await balance(pool) == Decimal("5.5")
    assert await types(pool) == ["purchase", "refund"]
    assert set((await event_states(pool)).values()) == {"applied"}


async def test_a_refund_in_parts_and_then_in_full_takes_back_each_part_once(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay()
    await apply(pool, asking, payment("1"))
    for amount, left in ((300, 7), (200, 5), (500, 0)):
        stripe_answers.refund(amount)
        await apply(pool, asking, changed(), changed("refund.created"), changed("refund.updated"))
        assert await balance(pool) == left
    assert await types(pool) == ["purchase", "refund", "refund", "refund"]


@pytest.mark.parametrize("status", ["failed", "canceled"])
async def test_a_refund_that_fails_gives_the_credits_back_once(
    pool: Pool,
    organization: Organization,
    asking: Drainer,
    stripe_answers: StripeAnswers,
    status: str,
) -> None:
    stripe_answers.pay()
    refund = stripe_answers.refund(1000, status="pending")
    await apply(pool, asking, payment("1"), changed("refund.created"))
    assert await balance(pool) == 0
    refund["status"] = status
    for _ in range(2):
        await apply(pool, asking, changed("refund.failed"), changed("charge.refund.updated"))
    assert await balance(pool) == 10
    assert len(await transactions(pool)) == 3


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_events_of_a_payment_and_its_refunds_come_to_the_same_in_any_order(
    pool: Pool,
    organization: Organization,
    asking: Drainer,
    stripe_answers: StripeAnswers,
    order: tuple[int, ...],
) -> None:
    stripe_answers.pay()
    stripe_answers.refund(250)
    bodies = [payment("1"), session("1"), changed()]
    for index in order:
        await apply(pool, asking, bodies[index])
    assert await balance(pool) == Decimal("7.5")
    assert await types(pool) == ["purchase", "refund"]
    assert set((await event_states(pool)).values()) == {"applied"}


async def test_a_refund_that_comes_before_its_payments_event_credits_the_payment_first(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay()
    stripe_answers.refund(400)
    await apply(pool, asking, changed())
    assert await types(pool) == ["purchase", "refund"]
    await apply(pool, asking, payment("1"))
    assert await balance(pool) == 6
    assert len(await transactions(pool)) == 2


async def test_a_success_that_is_told_again_after_the_refund_credits_nothing(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay()
    stripe_answers.refund(1000)
    await apply(pool, asking, payment("1"), changed())
    await apply(pool, asking, session("1"), session("1", "async_payment_succeeded"))
    assert await balance(pool) == 0


async def test_a_replay_of_everything_changes_nothing(
    pool: Pool,
    organization: Organization,
    asking: Drainer,
    stripe_answers: StripeAnswers,
    lookup: StripeLookup,
) -> None:
    stripe_answers.pay()
    stripe_answers.refund(100)
    stripe_answers.dispute(300)
    await apply(pool, asking, payment("1"), changed(), changed(DISPUTE_TYPES[0]))
    rows = len(await transactions(pool))
    ids = list(await event_states(pool))
    replayer = Replayer(pool, Applier(pool, SaleTerms(Decimal(1)), lookup=lookup), uuid4)
    report = await replayer.replay(ids, actor="test", reason=None)
    assert (report["applied"], report["noop"], report["failed"]) == (0, 3, 0)
    assert len(await transactions(pool)) == rows
    assert await balance(pool) == 6


async def test_yen_are_taken_back_to_the_yen(
    pool: Pool, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    await create_organization(pool, "tokyo", currency="jpy")
    stripe_answers.pay(currency="jpy", metadata={"organization_id": "tokyo"})
    stripe_answers.refund(333)
    await apply(pool, asking, payment("1", organization="tokyo", currency="jpy"), changed())
    assert await balance(pool, "tokyo") == 667


async def test_many_refunds_are_read_page_by_page(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay()
    stripe_answers.page_rows = 2
    for _ in range(5):
        stripe_answers.refund(100)
    await apply(pool, asking, changed())
    assert await balance(pool) == 5


async def test_a_payment_that_has_not_succeeded_has_nothing_to_take_back(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay(status="canceled")
    await apply(pool, asking, changed(event_id="1"))
    assert await event_states(pool) == {"evt_1": "ignored"}


async def test_a_refund_of_no_payment_intent_is_ignored(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    await apply(pool, asking, event("1", "charge.refunded", {"id": "ch_1"}))
    assert await event_states(pool) == {"evt_1": "ignored"}
    assert stripe_answers.asked == []


async def test_a_refund_of_a_payment_that_is_not_ours_is_ignored(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay(metadata={})
    stripe_answers.refund(1000)
    await apply(pool, asking, changed(event_id="1"))
    assert await event_states(pool) == {"evt_1": "ignored"}
    assert await transactions(pool) == []


async def test_an_answer_that_is_older_than_the_one_applied_changes_nothing(
    pool: Pool,
    organization: Organization,
    asking: Drainer,
    stripe_answers: StripeAnswers,
    lookup: StripeLookup,
) -> None:
    """A worker asks, sleeps, and wakes up after another has applied a later answer."""
    stripe_answers.pay()
    await apply(pool, asking, payment("1"))
    refund = stripe_answers.refund(1000)

    class Slow:
        async def answers(self, questions: Any) -> Any:
            stale = await lookup.answers(questions)
            refund["status"] = "failed"
            await apply(pool, asking, changed("refund.failed"))
            return stale

    await receive(pool, changed(event_id="slow"))
    async with pool.acquire() as connection:
        claimed = await store.claim(connection, rows_max=1, token=UUID(int=1), lease=LEASE)
    applier = Applier(pool, SaleTerms(Decimal(1)), lookup=Slow())
    await applier.apply(UUID(int=1), claimed)
    assert await balance(pool) == 10
    assert set((await event_states(pool)).values()) == {"applied"}


async def test_workers_at_once_on_the_events_of_a_payment_reach_the_level_once(
    pool: Pool, organization: Organization, lookup: StripeLookup, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay()
    stripe_answers.refund(600)
    applier = Applier(pool, SaleTerms(Decimal(1)), lookup=lookup)
    tokens = [UUID(int=n) for n in range(1, 7)]
    claims = []
    for token in tokens:
        await receive(pool, changed())
        async with pool.acquire() as connection:
            lease = timedelta(seconds=30)
            claims.append(await store.claim(connection, rows_max=1, token=token, lease=lease))
    await asyncio.gather(*map(applier.apply, tokens, claims))
    assert await balance(pool) == 4
    assert await types(pool) == ["purchase", "refund"]


async def test_the_simulators_refunds_and_disputes_are_understood(
    pool: Pool, organization: Organization, tmp_path: Path
) -> None:
    process = SimulatorProcess(tmp_path / "stripe.sqlite")
    await process.start()
    try:
        async with stripe_client("sk_test_123", process.url) as client:
            applier = Applier(pool, SaleTerms(Decimal(1)), lookup=StripeLookup(client))
            drainer = Drainer(pool, applier, make_token=uuid4)
            methods = {"enabled": True, "allow_redirects": "never"}
            asked: Any = {
                "amount": 1000,
                "currency": "usd",
                "confirm": True,
                "metadata": {"organization_id": "acme"},
                "automatic_payment_methods": methods,
            }
            intents = [
                await client.v1.payment_intents.create_async(asked | {"payment_method": card})
                for card in ("pm_card_visa", "pm_card_createDispute")
            ]
            refunded, disputed = (intent.id.removeprefix("pi_") for intent in intents)
            await client.v1.refunds.create_async({"payment_intent": f"pi_{refunded}", "amount": 99})
            await apply(pool, drainer, changed(name=refunded))
            await apply(pool, drainer, changed(DISPUTE_TYPES[0], name=disputed))
            assert set((await event_states(pool)).values()) == {"applied"}
            assert await types(pool) == ["purchase", "refund", "purchase", "dispute"]
            assert await balance(pool) == Decimal("9.01")
    finally:
        await process.stop()


async def test_a_purchase_is_announced_once(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await listen(pool)
    await apply(pool, drainer, payment("1"), session("1"))
    await apply(pool, drainer, session("1", "async_payment_succeeded"))
    assert await message_types(pool) == ["purchase.completed"]


async def test_a_payment_of_a_recharge_is_credited_as_one_and_rings_its_attempt(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await listen(pool)
    attempt_id = uuid4()
    await pool.execute(
        "INSERT INTO recharge_attempts (organization_id, id, state, amount, amount_minor, currency,"
        " customer_id, payment_method_id, created_at, charged_at, due_at)"
        " VALUES ($1, $2, 'charging', 10, 1000, 'usd', 'cus_1', 'pm_1', now(), now(), now())",
        organization.id,
        attempt_id,
    )
    named = {"organization_id": str(organization.id), "recharge_attempt_id": str(attempt_id)}
    await apply(pool, drainer, payment("1", metadata=named))
    (row,) = await transactions(pool)
    assert (row["type"], row["description"]) == ("recharge", "Auto-recharge")
    assert row["idempotency_key"] == "stripe:pi_1"
    assert "purchase.completed" not in await message_types(pool)
