"""The payments of an invoice, and when its credits expire."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from shared.durations import Duration
from shared.events.service import Applier
from shared.ids import new_id
from shared.inbox import store as inbox
from shared.ledger import service as ledger
from shared.ledger import store as ledger_store
from shared.ledger.model import Posting, SystemAccount, TransactionType
from shared.outbound import service as outbound
from shared.payments.lookup import StripeLookup
from shared.payments.model import SaleTerms
from tests.fixtures.product import (
    LEASE,
    balance,
    event_states,
    payment,
    receive,
    transactions,
)
from tests.integration.events import session
from tests.integration.invoices import ACME, KEY, apply, invoice, line, reasons, reversal
from worker.drainer import Drainer

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization
    from tests.fixtures.stripe_answers import StripeAnswers


# Its payments


async def test_a_payment_of_an_invoice_is_linked_and_refunded_by_its_share(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay_invoice()
    await apply(pool, asking, payment("1", amount=2000, metadata={}), invoice())
    bound = await pool.fetchrow("SELECT * FROM stripe_payments")
    assert bound is not None
    assert (bound["invoice_id"], bound["amount_minor"], bound["net_minor"]) == ("in_1", 2000, None)
    assert (bound["credits"], bound["charge_id"], bound["customer_id"]) == (250, "ch_1", "cus_1")
    stripe_answers.refund(500)
    await apply(pool, asking, reversal())
    assert await balance(pool) == Decimal("187.5")
    stripe_answers.refund(1500)
    await apply(pool, asking, reversal())
    assert await balance(pool) == 0


@pytest.mark.parametrize(
    ("excluding", "net"), [(1_680, 1_680), (None, None), (0, None), (2_001, None)]
)
async def test_the_net_price_of_a_payment_leaves_out_the_tax_of_its_invoice(
    pool: Pool,
    organization: Organization,
    asking: Drainer,
    stripe_answers: StripeAnswers,
    excluding: int | None,
    net: int | None,
) -> None:
    stripe_answers.pay_invoice()
    await apply(pool, asking, invoice(total_excluding_tax=excluding))
    bound = await pool.fetchrow("SELECT amount_minor, net_minor FROM stripe_payments")
    assert tuple(bound or ()) == (2_000, net)


async def test_a_dispute_of_an_invoices_payment_takes_and_gives_back(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay_invoice()
    await apply(pool, asking, invoice(), payment("1", amount=2000, metadata={}))
    opened = stripe_answers.dispute(2000)
    await apply(pool, asking, reversal(event_type="charge.dispute.created"))
    assert await balance(pool) == 0
    stripe_answers.win(opened)
    await apply(pool, asking, reversal(event_type="charge.dispute.closed"))
    assert await balance(pool) == 250
    assert [row["type"] for row in await transactions(pool)] == [
        "purchase",
        "dispute",
        "dispute_reversal",
    ]


async def test_a_credit_note_before_the_payment_leaves_the_credits_of_what_was_paid(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay_invoice(amount=500)
    await apply(pool, asking, invoice(amount_paid=500, pre_payment_credit_notes_amount=1500))
    assert await balance(pool) == Decimal("62.5")
    stripe_answers.refund(500)
    await apply(pool, asking, reversal())
    assert await balance(pool) == 0


@pytest.mark.parametrize("announced", [True, False])
async def test_an_invoice_that_comes_after_its_refund_brings_what_is_left(
    pool: Pool,
    organization: Organization,
    asking: Drainer,
    stripe_answers: StripeAnswers,
    announced: bool,
) -> None:
    stripe_answers.pay_invoice()
    stripe_answers.intents["pi_1"]["latest_charge"] |= {"amount_refunded": 500}
    stripe_answers.refund(500)
    before = [payment("1", amount=2000, metadata={}), reversal()] if announced else []
    await apply(pool, asking, *before)
    assert await balance(pool) == 0
    await apply(pool, asking, invoice())
    assert await balance(pool) == Decimal("187.5")
    await asking.drain()
    assert await balance(pool) == Decimal("187.5")


async def test_a_reversal_that_comes_before_the_invoice_is_applied_once_it_has_come(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay_invoice()
    stripe_answers.refund(2000)
    await apply(pool, asking, reversal())
    waits_for = await pool.fetchval("SELECT waits_for FROM stripe_events WHERE state = 'ignored'")
    assert waits_for == "pi_1"
    # Stripe does not show the refund at a glance.
    stripe_answers.intents["pi_1"]["latest_charge"] |= {"amount_refunded": 0, "disputed": False}
    await apply(pool, asking, invoice())
    await asking.drain()
    assert await balance(pool) == 0


async def test_several_payments_have_a_row_each_and_the_balances_part_has_none(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay_invoice("1", amount=1000)
    stripe_answers.pay_invoice("2", amount=600)
    await apply(pool, asking, invoice(amount_paid=1600))
    rows = [
        (row["idempotency_key"], row["payment_intent_id"], row["amount"])
        for row in await transactions(pool)
    ]
    assert rows == [
        (KEY, "pi_1", 125),
        (f"{KEY}:2", "pi_2", 75),
        (f"{KEY}:3", None, 50),
    ]
    stripe_answers.refund(300, "2")
    await apply(pool, asking, reversal("2"))
    assert await balance(pool) == Decimal("212.5")


async def test_only_what_is_paid_is_linked(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay_invoice("1", amount=2000)
    stripe_answers.pay_invoice("2", amount=2000)
    stripe_answers.invoice_payments[1]["status"] = "canceled"
    stripe_answers.invoice_payments.append(
        {
            "id": "inpay_x",
            "invoice": "in_1",
            "status": "paid",
            "amount_paid": 5,
            "payment": {"type": "payment_record", "payment_record": "pr_1"},
        }
    )
    await apply(pool, asking, invoice())
    assert [row["payment_intent_id"] for row in await transactions(pool)] == ["pi_1"]


async def test_older_versions_name_the_payment_in_the_event(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay("1", amount=2000, metadata={}, invoice="in_1")
    await apply(pool, asking, invoice(payment_intent="pi_1"))
    stripe_answers.refund(2000)
    await apply(pool, asking, reversal())
    assert await balance(pool) == 0


async def test_a_payment_that_was_a_sale_of_its_own_is_not_sold_again_by_its_invoice(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay_invoice(metadata={"organization_id": "acme"})
    stripe_answers.sessions.append(
        {
            "id": "cs_1",
            "mode": "payment",
            "payment_status": "paid",
            "payment_intent": "pi_1",
            "amount_total": 2000,
            "currency": "usd",
        }
    )
    await apply(pool, asking, payment("1", amount=2000))
    assert await balance(pool) == 20
    await apply(pool, asking, invoice())
    assert await balance(pool) == 20
    assert "was credited to organization" in await reasons(pool)


@pytest.mark.parametrize("first", ["invoice", "payment", "session"])
@pytest.mark.parametrize("version", ["today", "2024-06-20"])
async def test_a_session_that_creates_an_invoice_is_one_sale_whatever_comes_first(
    pool: Pool,
    organization: Organization,
    asking: Drainer,
    stripe_answers: StripeAnswers,
    first: str,
    version: str,
) -> None:
    """`invoice_creation`: the invoice says credits too, and is the receipt of its session."""
    stripe_answers.pay_invoice(invoice="in_1" if version == "today" else "in_0")
    checkout: dict[str, Any] = {
        "id": "cs_1",
        "amount_total": 2000,
        "currency": "usd",
        "metadata": ACME,
        "mode": "payment",
        "payment_intent": "pi_1",
        "payment_status": "paid",
    }
    stripe_answers.sessions.append(checkout)
    named: dict[str, Any] = {} if version == "today" else {"payment_intent": "pi_1"}
    bodies = {
        "invoice": invoice(parent=None, **named),
        "payment": payment("1", amount=2000, metadata={}),
        "session": session("1", **checkout),
    }
    for name in sorted(bodies, key=lambda name: name != first):
        await apply(pool, asking, bodies[name])
    assert [row["amount"] for row in await transactions(pool)] == [20]
    assert set((await event_states(pool)).values()) == {"applied", "ignored"}
    stripe_answers.refund(2000)
    await apply(pool, asking, reversal())
    assert await balance(pool) == 0


async def test_a_session_that_nobody_claims_leaves_its_credits_to_its_invoice(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay_invoice()
    stripe_answers.sessions.append(
        {
            "id": "cs_1",
            "amount_total": 2000,
            "currency": "usd",
            "mode": "payment",
            "payment_intent": "pi_1",
            "payment_status": "paid",
        }
    )
    await apply(pool, asking, invoice(parent=None), payment("1", amount=2000, metadata={}))
    assert [row["amount"] for row in await transactions(pool)] == [250]


async def test_an_invoice_that_sold_is_not_sold_again_by_its_payment(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay_invoice(metadata={"organization_id": "acme"})
    await apply(pool, asking, invoice(), payment("1", amount=2000))
    assert await balance(pool) == 250


async def test_one_message_announces_all_credits_of_an_invoice(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    async with pool.acquire() as connection:
        await outbound.add_endpoint(connection, url="https://app.example/hook", allow_private=False)
    stripe_answers.pay_invoice("1", amount=1000)
    stripe_answers.pay_invoice("2", amount=1000)
    await apply(pool, asking, invoice(), invoice())
    (payload,) = [
        row["payload"] for row in await pool.fetch("SELECT payload FROM outbound_messages")
    ]
    data = json.loads(payload)["data"]
    assert (data["invoiceId"], data["credits"], data["balanceAfter"]) == ("in_1", 250, 250)


async def test_a_debit_is_explained_by_the_payment_of_an_invoice(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay_invoice("1", amount=1000)
    stripe_answers.pay_invoice("2", amount=1000)
    await apply(pool, asking, invoice())
    used = Posting(
        organization_id=organization.id,
        id=new_id(),
        type=TransactionType.USAGE,
        amount=Decimal(-200),
        counterparty=SystemAccount.REVENUE,
        key="used",
    )
    async with pool.acquire() as connection:
        await ledger.post(connection, [used])
        row = await ledger_store.find(connection, used.id)
        assert row is not None
        sources = await ledger.explain(connection, row)
    assert [(s.payment_intent_id, s.charge_id, s.amount) for s in sources] == [
        ("pi_1", "ch_1", Decimal(125)),
        ("pi_2", "ch_2", Decimal(75)),
    ]


async def test_workers_that_apply_one_invoice_at_once_credit_it_once(
    pool: Pool, organization: Organization, lookup: StripeLookup, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay_invoice("1", amount=1000)
    stripe_answers.pay_invoice("2", amount=600)
    await receive(pool, *(invoice() for _ in range(8)))
    applier = Applier(pool, SaleTerms(Decimal(1)), lookup=lookup)

    async def work() -> None:
        token = uuid4()
        async with pool.acquire() as connection:
            events = await inbox.claim(connection, rows_max=2, token=token, lease=LEASE)
        await applier.apply(token, events)

    await asyncio.gather(*(work() for _ in range(4)))
    assert set((await event_states(pool)).values()) == {"applied"}
    assert await balance(pool) == 250
    assert len(await transactions(pool)) == 3


# Expiry


async def test_credits_expire_as_the_price_says(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay_invoice()
    end = int(time.time()) + 86_400
    ending = stripe_answers.price("1", credits_="100")
    ending["metadata"]["prepaid_expires"] = "period_end"
    lasting = stripe_answers.price("2", credits_="50")
    lines = [line(ending, 1000, period={"start": end - 90_000, "end": end}), line(lasting, 1000)]
    await apply(pool, asking, invoice("paid", *lines))
    grants = await pool.fetch("SELECT original, expires_at FROM credit_grants ORDER BY seq")
    assert [(row["original"], row["expires_at"]) for row in grants] == [
        (100, datetime.fromtimestamp(end, UTC)),
        (50, None),
    ]
    assert [row["idempotency_key"] for row in await transactions(pool)] == [KEY, f"{KEY}:2"]
    stripe_answers.refund(2000)
    await apply(pool, asking, reversal())
    assert await balance(pool) == 0


async def test_a_duration_counts_from_the_moment_of_payment(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    says = {**ACME, "prepaid_credits": "250", "prepaid_expires": "P30D"}
    paid_at = int(time.time()) - 86_400
    await apply(pool, drainer, invoice(metadata=says, status_transitions={"paid_at": paid_at}))
    expires_at = await pool.fetchval("SELECT expires_at FROM credit_grants")
    assert expires_at == datetime.fromtimestamp(paid_at + 30 * 86_400, UTC)


async def test_what_has_expired_before_it_is_applied_brings_nothing(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    says = {**ACME, "prepaid_credits": "250", "prepaid_expires": "P30D"}
    body = invoice(metadata=says, status_transitions={"paid_at": 1_600_000_000})
    assert await apply(pool, drainer, body) == ["ignored"]
    assert "expired at 2020-10-13" in await reasons(pool)


async def test_without_a_word_credits_expire_as_purchases_do(
    pool: Pool, organization: Organization
) -> None:
    terms = SaleTerms(Decimal(1), purchase_expires=Duration.parse("P1Y"))
    drainer = Drainer(pool, Applier(pool, terms), make_token=uuid4)
    await apply(pool, drainer, invoice())
    expires_at = await pool.fetchval("SELECT expires_at FROM credit_grants")
    assert expires_at > datetime.now(UTC) + timedelta(days=360)


@pytest.mark.parametrize("said", ["soon", "P0D", "-P1D", "period_end", 5])
async def test_an_expiry_that_cannot_be_read_is_refused(
    pool: Pool, organization: Organization, drainer: Drainer, said: Any
) -> None:
    says = {**ACME, "prepaid_credits": "250", "prepaid_expires": said}
    assert await apply(pool, drainer, invoice(metadata=says)) == ["dead"]
    assert "prepaid_expires" in await reasons(pool)
