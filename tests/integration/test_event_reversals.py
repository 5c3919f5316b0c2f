"""Refunds, disputes and fraud warnings: whatever the events, the level is what Stripe says."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from sandbox.signed_events import event
from sandbox.stripe.process import SimulatorProcess
from shared.events.service import Applier
from shared.inbox import store
from shared.inbox.rules import BREAKER_FAILURES
from shared.outbound import service as outbound
from shared.payments.client import stripe_client
from shared.payments.lookup import StripeLookup
from shared.payments.model import SaleTerms
from shared.replay.service import Replayer
from tests.fixtures.product import (
    LEASE,
    balance,
    create_organization,
    event_row,
    event_states,
    payment,
    receive,
    transactions,
)
from tests.fixtures.stripe_answers import StripeAnswers
from tests.integration.events import open_purchase, session
from worker.drainer import Drainer

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

REFUND_TYPES = (
    *("charge.refunded", "charge.refund.updated"),
    *("refund.created", "refund.updated", "refund.failed"),
)
DISPUTE_TYPES = tuple(
    f"charge.dispute.{word}"
    for word in ("created", "updated", "closed", "funds_withdrawn", "funds_reinstated")
)
_numbers = itertools.count()


def changed(
    event_type: str = "charge.refunded", name: str = "1", event_id: str | None = None
) -> bytes:
    """Return an event that tells that the level of `pi_<name>` may have changed."""
    told = {"id": f"x_{name}", "payment_intent": f"pi_{name}", "charge": f"ch_{name}"}
    return event(event_id or f"changed_{next(_numbers)}", event_type, told)


def warning(name: str = "1") -> bytes:
    told = {"id": f"issfr_{name}", "payment_intent": f"pi_{name}", "fraud_type": "stolen"}
    return event(f"warning_{name}_{next(_numbers)}", "radar.early_fraud_warning.created", told)


async def apply(pool: Pool, drainer: Drainer, *bodies: bytes) -> None:
    await receive(pool, *bodies)
    await drainer.drain()


async def make_due(pool: Pool) -> None:
    await pool.execute("UPDATE stripe_events SET available_at = now() WHERE state = 'retrying'")


async def types(pool: Pool) -> list[str]:
    return [row["type"] for row in await transactions(pool)]


async def consent(pool: Pool, organization: Organization) -> None:
    """Let an organization's auto-recharge run."""
    await pool.execute(
        "INSERT INTO auto_recharges (organization_id, state, threshold, amount, consented_at)"
        " VALUES ($1, 'active', 5, 20, now())",
        organization.id,
    )


async def recharge_reason(pool: Pool) -> str | None:
    reason: str | None = await pool.fetchval("SELECT reason FROM auto_recharges")
    return reason


async def listen(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await outbound.add_endpoint(connection, url="https://app.example/hook", allow_private=False)


async def told(pool: Pool) -> list[str]:
    rows = await pool.fetch("SELECT type FROM outbound_messages ORDER BY created_at, type")
    return [row["type"] for row in rows]


# The level


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


# Disputes


@pytest.mark.parametrize("event_type", DISPUTE_TYPES)
async def test_a_dispute_takes_back_what_it_has_withdrawn(
    pool: Pool,
    organization: Organization,
    asking: Drainer,
    stripe_answers: StripeAnswers,
    event_type: str,
) -> None:
    stripe_answers.pay()
    stripe_answers.dispute(1000)
    await apply(pool, asking, payment("1"), changed(event_type))
    assert await balance(pool) == 0
    assert await types(pool) == ["purchase", "dispute"]


async def test_a_dispute_that_has_withdrawn_nothing_takes_nothing(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay()
    stripe_answers.dispute(1000, balance_transactions=[], status="warning_needs_response")
    await apply(pool, asking, payment("1"), changed(DISPUTE_TYPES[0]))
    assert await balance(pool) == 10


async def test_a_dispute_that_is_won_gives_back_once_and_is_told_once(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    await listen(pool)
    stripe_answers.pay()
    await apply(pool, asking, payment("1"))
    dispute = stripe_answers.dispute(1000)
    await apply(pool, asking, *map(changed, ("charge.dispute.created", DISPUTE_TYPES[3])))
    assert await balance(pool) == 0
    stripe_answers.win(dispute)
    for _ in range(2):
        await apply(pool, asking, *map(changed, reversed(DISPUTE_TYPES)))
    assert await balance(pool) == 10
    assert await types(pool) == ["purchase", "dispute", "dispute_reversal"]
    assert await told(pool) == [
        "purchase.completed",
        "credits.depleted",
        "dispute.opened",
        "dispute.closed",
    ]
    row = await pool.fetchrow("SELECT * FROM stripe_disputes")
    assert row is not None
    assert (row["status"], row["closed_at"] is not None) == ("won", True)


@pytest.mark.parametrize("status", ["won", "lost"])
async def test_a_dispute_that_is_heard_of_when_it_is_closed_is_told_as_opened_and_closed(
    pool: Pool,
    organization: Organization,
    asking: Drainer,
    stripe_answers: StripeAnswers,
    status: str,
) -> None:
    await listen(pool)
    await consent(pool, organization)
    stripe_answers.pay()
    stripe_answers.dispute(1000, status=status)
    await apply(pool, asking, changed("charge.dispute.closed"))
    assert {"dispute.opened", "dispute.closed"} <= set(await told(pool))
    assert await recharge_reason(pool) == ("dispute" if status == "lost" else None)


async def test_withdrawals_in_the_currency_of_the_balance_stand_for_the_whole_dispute(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay()
    foreign = {"currency": "eur"}
    dispute = stripe_answers.dispute(600, balance_transactions=[{"amount": -511, **foreign}])
    await apply(pool, asking, payment("1"), changed(DISPUTE_TYPES[3]))
    assert await balance(pool) == 4
    dispute["balance_transactions"].append({"amount": 498, **foreign})
    await apply(pool, asking, changed(DISPUTE_TYPES[4]))
    assert await balance(pool) == 10


async def test_a_dispute_stops_auto_recharge_once_and_not_again_after_a_person_let_it_run(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    await consent(pool, organization)
    stripe_answers.pay()
    stripe_answers.dispute(1000)
    await apply(pool, asking, payment("1"), changed(DISPUTE_TYPES[0]))
    assert await recharge_reason(pool) == "dispute"
    await pool.execute("UPDATE auto_recharges SET state = 'active', reason = NULL, detail = NULL")
    await apply(pool, asking, changed(DISPUTE_TYPES[1]))
    assert await recharge_reason(pool) is None


async def test_a_fraud_warning_stops_auto_recharge_and_takes_nothing(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await consent(pool, organization)
    await apply(pool, drainer, payment("1"), warning(), warning())
    assert await recharge_reason(pool) == "fraud_warning"
    assert await balance(pool) == 10
    assert await pool.fetchval("SELECT count(*) FROM stripe_disputes") == 1
    assert set((await event_states(pool)).values()) == {"applied"}


async def test_a_fraud_warning_waits_for_its_payment(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await consent(pool, organization)
    await apply(pool, drainer, warning())
    await apply(pool, drainer, payment("1"))
    await make_due(pool)
    await drainer.drain()
    assert await recharge_reason(pool) == "fraud_warning"


async def test_a_fraud_warning_that_names_the_charge_alone_finds_the_payment(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await consent(pool, organization)
    told_of = {"id": "issfr_1", "payment_intent": None, "charge": "ch_1"}
    body = event("w", "radar.early_fraud_warning.created", told_of)
    await apply(pool, drainer, payment("1"), body)
    assert await recharge_reason(pool) == "fraud_warning"


# Asking


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


async def test_a_purchase_is_told_once(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await listen(pool)
    await apply(pool, drainer, payment("1"), session("1"))
    await apply(pool, drainer, session("1", "async_payment_succeeded"))
    assert await told(pool) == ["purchase.completed"]


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
    assert "purchase.completed" not in await told(pool)
