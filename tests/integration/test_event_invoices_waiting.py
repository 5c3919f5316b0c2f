"""Paid invoices of a customer whom no organization has yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.inbox.admin import store as admin
from shared.payments.customers import bind_customers
from tests.fixtures.product import balance, event_states
from tests.integration.events import session
from tests.integration.invoices import apply, invoice
from worker.drainer import Drainer

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization
    from tests.fixtures.stripe_answers import StripeAnswers


async def bind(pool: Pool, organization: Organization, customer: str = "cus_1") -> None:
    async with pool.acquire() as connection, connection.transaction():
        await bind_customers(connection, {organization.id: customer})


async def test_the_first_invoice_may_come_before_the_session_that_sold_its_subscription(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay_invoice()
    paid = invoice(metadata={}, subscription_metadata={"prepaid_credits": "250"})
    assert await apply(pool, asking, paid) == ["dead"]
    sold = session("1", mode="subscription", customer="cus_1", payment_intent=None)
    await apply(pool, asking, sold)
    await asking.drain()
    assert await balance(pool) == 250
    assert set((await event_states(pool)).values()) == {"applied"}


async def test_it_is_dead_as_long_as_nobody_has_its_customer(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await apply(pool, drainer, invoice(metadata={"prepaid_credits": "250"}))
    await bind(pool, organization, "cus_2")
    await drainer.drain()
    (row,) = await pool.fetch("SELECT state, error_class, waits_for FROM stripe_events")
    assert tuple(row) == ("dead", "UnknownCustomerError", "cus_1")


async def test_one_that_was_discarded_waits_for_nobody(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await apply(pool, drainer, invoice(metadata={"prepaid_credits": "250"}))
    async with pool.acquire() as connection:
        assert await admin.discard(connection, list(await event_states(pool)), "refunded")
    await bind(pool, organization)
    await drainer.drain()
    assert await balance(pool) == 0
    (row,) = await pool.fetch("SELECT state, waits_for FROM stripe_events")
    assert tuple(row) == ("discarded", None)
