"""Stripe's answers about a payment: one lookup for many events, and what happens without one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from shared.inbox.rules import BREAKER_FAILURES
from tests.fixtures.product import balance, event_row, event_states, payment, receive
from tests.fixtures.reversals import DISPUTE_TYPES, REFUND_TYPES, changed, make_due
from tests.integration.events import apply, open_purchase, session

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization
    from tests.fixtures.stripe_answers import StripeAnswers
    from worker.drainer import Drainer


async def test_many_events_of_a_payment_ask_once(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay()
    stripe_answers.refund(100)
    await apply(pool, asking, *map(changed, (*REFUND_TYPES, *DISPUTE_TYPES)))
    assert sorted(stripe_answers.asked) == [
        "/v1/checkout/sessions",
        "/v1/disputes",
        "/v1/invoice_payments",
        "/v1/payment_intents/pi_1",
        "/v1/refunds",
    ]


@pytest.mark.parametrize("fault", ["500", "hang up", "not Stripe's"])
async def test_without_an_answer_the_event_is_tried_again_and_no_other_waits(
    pool: Pool,
    organization: Organization,
    asking: Drainer,
    stripe_answers: StripeAnswers,
    fault: str,
) -> None:
    stripe_answers.pay()
    stripe_answers.refund(1000)
    stripe_answers.status = 500 if fault == "500" else 200
    stripe_answers.hang_up = fault == "hang up"
    if fault == "not Stripe's":
        stripe_answers.status = 404
    await open_purchase(pool, organization, "1")
    await apply(pool, asking, session("1"), changed(event_id="r"))
    row = await event_row(pool, "evt_r")
    refused = "StripeRefusedError" if fault == "not Stripe's" else "StripeFailedError"
    assert (row["state"], row["error_class"]) == ("retrying", refused)
    assert await event_states(pool) == {"evt_cs_1_completed": "applied", "evt_r": "retrying"}
    assert await balance(pool) == 10
    stripe_answers.status, stripe_answers.hang_up = 200, False
    await make_due(pool)
    await asking.drain()
    assert await balance(pool) == 0


async def test_refunds_that_stripe_knows_nothing_of_do_not_pause_their_type(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay()
    await apply(pool, asking, payment("1"))
    gone = [changed(name=f"gone_{number}") for number in range(BREAKER_FAILURES + 1)]
    await apply(pool, asking, *gone)
    assert await pool.fetch("SELECT FROM event_breakers") == []
    stripe_answers.refund(1000)
    await apply(pool, asking, changed())
    assert await balance(pool) == 0


async def test_an_answer_that_is_none_of_stripes_fails_its_event_alone(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay("1")
    stripe_answers.pay("2")
    await apply(pool, asking, payment("1"), payment("2"))
    stripe_answers.refund(1000, "1")
    stripe_answers.refund(1000, "2")
    stripe_answers.pages["pi_1"] = {}  # such as a proxy's
    await apply(pool, asking, changed(name="1", event_id="r1"), changed(name="2"))
    row = await event_row(pool, "evt_r1")
    assert (row["state"], row["attempts"]) == ("retrying", 1)
    assert await balance(pool) == 10
    del stripe_answers.pages["pi_1"]
    await make_due(pool)
    await asking.drain()
    assert await balance(pool) == 0


async def test_a_list_that_is_cut_is_no_answer(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay()
    await apply(pool, asking, payment("1"))
    stripe_answers.refund(1000)
    await apply(pool, asking, changed())
    stripe_answers.pages["pi_1"] = {"object": "list", "url": "/", "data": [], "has_more": True}
    await apply(pool, asking, changed(event_id="r"))
    row = await event_row(pool, "evt_r")
    assert (row["state"], row["error_class"]) == ("retrying", "StripeFailedError")
    assert await balance(pool) == 0


async def test_other_events_of_the_batch_do_not_wait_for_stripe(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay()
    stripe_answers.gate.clear()
    await open_purchase(pool, organization, "2")
    await receive(pool, changed(), session("2"))
    drain = asyncio.create_task(asking.drain())
    async with asyncio.timeout(30):
        while await balance(pool) != 10:  # noqa: ASYNC110 - a row has no event
            await asyncio.sleep(0.005)
    stripe_answers.gate.set()
    await drain


async def test_an_applier_with_nobody_to_ask_says_so(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await apply(pool, drainer, changed(event_id="1"))
    row = await event_row(pool, "evt_1")
    assert (row["state"], row["error_class"]) == ("retrying", "NobodyToAskError")
    assert "lookup" in row["reason"]
