"""Orphaned PaymentIntents, customers deleted at Stripe, and cards that are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from shared.reconciliation.model import FindingKind, Outcome, RunMode
from tests.integration.reconciliation.conftest import Books, orphan, status

if TYPE_CHECKING:
    from shared.organizations.model import Organization


async def attempt(books: Books, organization: Organization, state: str) -> UUID:
    attempt_id = uuid4()
    await books.pool.execute(
        "INSERT INTO recharge_attempts (organization_id, id, state, created_at, settled_at,"
        " reason) VALUES ($1, $2, $3::text, now(), CASE WHEN $3 = 'canceled' THEN now() END,"
        " CASE WHEN $3 = 'canceled' THEN 'canceled' END)",
        organization.id,
        attempt_id,
        state,
    )
    return attempt_id


@pytest.mark.parametrize("known", [True, False])
async def test_the_payment_of_an_attempt_that_is_over_or_lost_is_canceled(
    books: Books, organization: Organization, known: bool
) -> None:
    attempt_id = await attempt(books, organization, "canceled") if known else uuid4()
    payment = await orphan(books, organization.id, attempt_id)
    assert await books.found() == {(FindingKind.ORPHANED_PAYMENT_INTENT, payment)}
    assert await status(books, payment) == "requires_payment_method"
    (finding,) = await books.findings(await books.run(RunMode.REPAIR))
    assert finding.outcome is Outcome.REPAIRED
    assert await status(books, payment) == "canceled"
    await books.shop.deliver_new()
    assert (await books.run()).findings == {}


async def test_the_payment_of_a_live_attempt_is_left_alone(
    books: Books, organization: Organization
) -> None:
    """Its creation may be under way, and its id not stored yet."""
    payment = await orphan(books, organization.id, await attempt(books, organization, "armed"))
    assert (await books.run(RunMode.REPAIR)).findings == {}
    assert await status(books, payment) == "requires_payment_method"


async def test_payments_of_another_installation_are_left_alone(books: Books) -> None:
    """Two installations may share a Stripe account: one for tests, and one for its tests."""
    payment = await orphan(books, uuid4(), uuid4())
    assert (await books.run(RunMode.REPAIR)).findings == {}
    assert await status(books, payment) == "requires_payment_method"


async def on_file(books: Books, organization: Organization) -> tuple[str, str]:
    """Give the organization a customer with a card; lose what happens from now on."""
    client = books.shop.client.v1
    customer = await client.customers.create_async({"name": "Acme"})
    card = await client.payment_methods.attach_async("pm_card_visa", {"customer": customer.id})
    await books.pool.execute(
        "UPDATE organizations SET stripe_customer_id = $2 WHERE id = $1",
        organization.id,
        customer.id,
    )
    await books.shop.deliver_new()
    await books.lose("*", "never_generated", times=99)
    return customer.id, card.id


async def attached(books: Books) -> int:
    count: int = await books.pool.fetchval(
        "SELECT count(*) FROM payment_methods WHERE detached_at IS NULL"
    )
    return count


async def test_a_card_that_is_gone_at_stripe_is_taken_off_file(
    books: Books, organization: Organization
) -> None:
    _, card = await on_file(books, organization)
    assert (await books.run()).findings == {}
    await books.shop.client.v1.payment_methods.detach_async(card)
    assert await books.found() == {(FindingKind.PAYMENT_METHOD_GONE, card)}
    assert await attached(books) == 1
    await books.run(RunMode.REPAIR)
    assert await attached(books) == 0
    assert (await books.run()).findings == {}


async def test_a_customer_that_was_deleted_at_stripe_is_forgotten_with_its_cards(
    books: Books, organization: Organization
) -> None:
    customer, card = await on_file(books, organization)
    await books.shop.client.v1.customers.delete_async(customer)
    assert await books.found() == {
        (FindingKind.CUSTOMER_DELETED, customer),
        (FindingKind.PAYMENT_METHOD_GONE, card),
    }
    await books.run(RunMode.REPAIR)
    assert await attached(books) == 0
    assert (await books.run()).findings == {}


async def test_what_is_on_file_is_not_compared_where_it_was_not_asked_for(
    books: Books, organization: Organization
) -> None:
    customer, _ = await on_file(books, organization)
    await books.shop.client.v1.customers.delete_async(customer)
    assert (await books.run(whole=False)).findings == {}
