"""Workers on the same payments, refunds, disputes and invoices take their locks in one order."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from sandbox.signed_events import event
from shared.events.service import Applier
from shared.inbox import store as inbox
from shared.payments.model import SaleTerms
from tests.fixtures.product import (
    LEASE,
    balance,
    event_states,
    payment,
    receive,
    transactions,
    until,
)
from tests.integration.invoices import apply, invoice, reasons, reversal
from tests.integration.test_event_owners import waiting_for_locks
from worker.drainer import Drainer

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization
    from shared.payments.lookup import StripeLookup
    from tests.fixtures.stripe_answers import StripeAnswers

WORKERS = 5
EARLY = 1_700_000_000  # so long ago that Stripe is asked what is left of the payment


def pay(stripe_answers: StripeAnswers) -> None:
    """Pay an invoice with two payments, one refunded and one disputed; and two others alone."""
    stripe_answers.pay_invoice("1", amount=1000, customer="cus_1")
    stripe_answers.refund(1000, "1")
    stripe_answers.pay_invoice("2", amount=1000, customer="cus_1")
    stripe_answers.win(stripe_answers.dispute(1000, "2"))
    stripe_answers.pay("3", customer="cus_1", metadata={})
    kept: dict[str, Any] = {"payment_method": "pm_4", "setup_future_usage": "off_session"}
    stripe_answers.pay("4", customer="cus_9", **kept)
    stripe_answers.refund(400, "4")
    stripe_answers.dispute(1000, "4")


def events_of(stripe_answers: StripeAnswers) -> list[bytes]:
    bodies = [
        invoice(),
        reversal("1"),
        reversal("2", "charge.dispute.closed"),
        reversal("3"),
        reversal("4"),
        reversal("4", "charge.dispute.created"),
    ]
    for created in (EARLY, int(time.time())):
        for name, intent in stripe_answers.intents.items():
            told = event(f"{name}_{uuid4()}", "payment_intent.succeeded", intent, created=created)
            bodies.append(told)
    return bodies


@pytest.mark.parametrize("seed", range(2))
async def test_events_of_a_few_payments_at_once_never_wait_for_each_other_in_a_circle(
    pool: Pool,
    organization: Organization,
    lookup: StripeLookup,
    stripe_answers: StripeAnswers,
    seed: int,
) -> None:
    await pool.execute("UPDATE organizations SET stripe_customer_id = 'cus_1'")
    pay(stripe_answers)
    bodies = [body for _ in range(5) for body in events_of(stripe_answers)]
    Random(seed).shuffle(bodies)  # noqa: S311 - no secret
    await receive(pool, *bodies)
    applier = Applier(pool, SaleTerms(Decimal(1)), lookup=lookup)

    async def work() -> None:
        events = True
        while events:
            token = uuid4()
            async with pool.acquire() as connection:
                claimed = await inbox.claim(connection, rows_max=2, token=token, lease=LEASE)
            events = bool(claimed)
            await applier.apply(token, claimed)

    await asyncio.gather(*(work() for _ in range(WORKERS)))  # a deadlock would be raised
    await Drainer(pool, applier, make_token=uuid4).drain()  # what waited for its payment
    rows = await pool.fetch(
        "SELECT payment_intent_id, sum(amount) AS amount FROM credit_transactions GROUP BY 1"
    )
    found = {row["payment_intent_id"]: row["amount"] for row in rows}
    assert found == {"pi_1": 0, "pi_2": 125, "pi_4": 0}
    assert set((await event_states(pool)).values()) == {"applied", "ignored"}


async def test_a_success_that_is_told_late_takes_the_payment_before_the_account(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay()
    await apply(pool, asking, payment("1"))
    intent = stripe_answers.intents["pi_1"]
    await receive(pool, event("late", "payment_intent.succeeded", intent, created=EARLY))
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM stripe_payments FOR UPDATE")  # as a refund does
        draining = asyncio.create_task(asking.drain())
        await waiting_for_locks(pool, 1)
        await connection.execute("SELECT FROM accounts FOR NO KEY UPDATE NOWAIT")
    await draining
    assert set((await event_states(pool)).values()) == {"applied"}


async def test_a_payment_that_another_binds_at_the_same_moment_is_taken_before_its_account(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay()
    stripe_answers.refund(400)
    await receive(pool, reversal())

    async def payment_is_taken() -> bool:
        return not await pool.fetch("SELECT FROM stripe_payments FOR UPDATE SKIP LOCKED")

    async with pool.acquire() as holder, holder.transaction():
        async with pool.acquire() as other, other.transaction():
            await other.execute(
                "INSERT INTO stripe_payments (payment_intent_id, organization_id, amount_minor,"
                " currency, credits) VALUES ('pi_1', $1, 1000, 'usd', 10)",
                organization.id,
            )
            draining = asyncio.create_task(asking.drain())
            await waiting_for_locks(pool, 1)
            await holder.execute("SELECT FROM accounts FOR UPDATE")
        await until(payment_is_taken)
    await draining
    assert await balance(pool) == 6


async def test_a_payment_that_its_invoice_binds_at_the_same_moment_is_credited_once(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await receive(pool, payment("1", amount=2000))
    async with pool.acquire() as other, other.transaction():
        await other.execute(
            "INSERT INTO stripe_payments (payment_intent_id, organization_id, amount_minor,"
            " currency, credits, invoice_id) VALUES ('pi_1', $1, 2000, 'usd', 250, 'in_1')",
            organization.id,
        )
        draining = asyncio.create_task(drainer.drain())
        await waiting_for_locks(pool, 1)
    await draining
    assert await event_states(pool) == {"evt_1": "ignored"}
    assert "pi_1 pays in_1, which was credited as a whole" in await reasons(pool)
    assert await transactions(pool) == []
