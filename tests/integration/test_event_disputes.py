"""Disputes and fraud warnings: what they take back, and that they stop auto-recharge."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from sandbox.signed_events import event
from tests.fixtures.product import balance, event_states, payment
from tests.fixtures.reversals import (
    DISPUTE_TYPES,
    changed,
    consent,
    listen,
    make_due,
    message_types,
    recharge_reason,
    types,
    warning,
)
from tests.integration.events import apply

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization
    from tests.fixtures.stripe_answers import StripeAnswers
    from worker.drainer import Drainer


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


async def test_a_dispute_in_the_customers_currency_takes_back_its_share_of_the_price_shown(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    shown = {"presentment_amount": 150_000, "presentment_currency": "jpy"}
    stripe_answers.pay(presentment_details=shown)
    moved = [{"id": "txn_1", "amount": -260, "currency": "usd"}]
    disputed = stripe_answers.dispute(37_500, currency="jpy", balance_transactions=moved)
    await apply(pool, asking, payment("1"), changed(DISPUTE_TYPES[0]))
    assert await balance(pool) == Decimal("7.5")
    disputed["balance_transactions"] = [*moved, {"id": "txn_2", "amount": 255, "currency": "usd"}]
    await apply(pool, asking, changed(DISPUTE_TYPES[4]))
    assert await balance(pool) == 10


async def test_a_dispute_that_has_withdrawn_nothing_takes_nothing(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay()
    stripe_answers.dispute(1000, balance_transactions=[], status="warning_needs_response")
    await apply(pool, asking, payment("1"), changed(DISPUTE_TYPES[0]))
    assert await balance(pool) == 10


async def test_a_dispute_that_is_won_gives_back_once_and_is_announced_once(
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
    assert await message_types(pool) == [
        "purchase.completed",
        "credits.depleted",
        "dispute.opened",
        "dispute.closed",
    ]
    row = await pool.fetchrow("SELECT * FROM stripe_disputes")
    assert row is not None
    assert (row["status"], row["closed_at"] is not None) == ("won", True)


@pytest.mark.parametrize("status", ["won", "lost"])
async def test_a_dispute_that_is_heard_of_when_it_is_closed_is_announced_as_opened_and_closed(
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
    assert {"dispute.opened", "dispute.closed"} <= set(await message_types(pool))
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
