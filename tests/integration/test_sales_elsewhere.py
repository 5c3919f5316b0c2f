"""Payments that were opened elsewhere: captured in part, on a page of another mode, not for us."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tests.fixtures.product import balance, event_row, event_states, payment, receive
from tests.fixtures.reversals import changed
from tests.integration.events import session
from worker.drainer import Drainer

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization
    from tests.fixtures.stripe_answers import StripeAnswers


async def apply(pool: Pool, drainer: Drainer, *bodies: bytes) -> None:
    await receive(pool, *bodies)
    await drainer.drain()


def page(**changes: Any) -> dict[str, Any]:
    """Return the Checkout Session of `pi_1` as Stripe has it, over 25.00 for acme."""
    return {
        "id": "cs_1",
        "object": "checkout.session",
        "amount_total": 2500,
        "currency": "usd",
        "metadata": {"organization_id": "acme"},
        "mode": "payment",
        "payment_intent": "pi_1",
        "payment_status": "paid",
        **changes,
    }


@pytest.mark.parametrize("first", ["session", "payment"])
async def test_a_partial_capture_is_credited_by_what_was_captured(
    pool: Pool,
    organization: Organization,
    asking: Drainer,
    stripe_answers: StripeAnswers,
    first: str,
) -> None:
    captured: dict[str, Any] = {"amount": 2500, "amount_received": 1000, "metadata": {}}
    stripe_answers.pay("1", **captured)
    stripe_answers.refund(1500)  # Stripe releases the rest so; no money moves
    stripe_answers.sessions.append(page())
    bodies = [session("1", amount_total=2500), payment("1", **captured)]
    for body in bodies if first == "session" else reversed(bodies):
        await apply(pool, asking, body)
    await apply(pool, asking, changed())
    assert await balance(pool) == 10
    stripe_answers.refund(400)["balance_transaction"] = "txn_1"
    await apply(pool, asking, changed())
    assert await balance(pool) == 6
    assert set((await event_states(pool)).values()) == {"applied"}


async def test_a_payment_is_captured_whatever_its_session_says_of_that(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay("1", amount=2500, metadata={})
    details = {"amount_tax": 500, "amount_shipping": 0}
    stripe_answers.sessions.append(page(payment_status="unpaid", total_details=details))
    await apply(pool, asking, payment("1", amount=2500, metadata={}))
    assert await balance(pool) == 20


async def test_a_subscriptions_payment_is_its_invoices_whoever_its_metadata_names(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    """M1: the first invoice of a subscription is paid on a Checkout Session."""
    stripe_answers.pay_invoice(metadata={"organization_id": "acme"})
    stripe_answers.sessions.append(page(mode="subscription"))
    await apply(pool, asking, payment("1", amount=2000))
    assert await balance(pool) == 0
    row = await event_row(pool, "evt_1")
    assert row["state"] == "ignored"
    assert "in_1" in row["reason"]


@pytest.mark.parametrize("details", [{"amount_shipping": 500}, {"amount_tax": 600}])
async def test_a_page_that_sells_no_credits_is_no_dead_letter(
    pool: Pool,
    organization: Organization,
    asking: Drainer,
    stripe_answers: StripeAnswers,
    details: dict[str, int],
) -> None:
    """A shop on the same account sends a free gift: all that is paid is its shipping."""
    told: dict[str, Any] = {"amount_total": 500, "metadata": {}, "total_details": details}
    stripe_answers.pay("1", amount=500, metadata={})
    stripe_answers.sessions.append(page(**told))
    await apply(pool, asking, payment("1", amount=500, metadata={}), session("1", **told))
    assert set((await event_states(pool)).values()) == {"ignored"}


@pytest.mark.parametrize(("currency", "credits_"), [("jpy", "2500"), ("kwd", "2.5")])
async def test_tax_is_taken_off_in_the_currencys_own_unit(
    pool: Pool,
    organization: Organization,
    asking: Drainer,
    stripe_answers: StripeAnswers,
    currency: str,
    credits_: str,
) -> None:
    """M8 in currencies without decimals and with three."""
    await pool.execute("UPDATE organizations SET currency = $1", currency)
    told: dict[str, Any] = {"currency": currency, "total_details": {"amount_tax": 500}}
    stripe_answers.pay("1", amount=3000, currency=currency, metadata={})
    stripe_answers.sessions.append(page(amount_total=3000, **told))
    await apply(pool, asking, session("1", amount_total=3000, **told))
    assert await balance(pool) == Decimal(credits_)
