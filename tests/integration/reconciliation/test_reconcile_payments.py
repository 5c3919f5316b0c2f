"""Payments, refunds and disputes of which no event arrived are found, and repaired once."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import uuid4

from shared.reconciliation.model import FindingKind, Outcome, RunMode
from tests.fixtures.product import event_states, fail_postings, transactions
from tests.integration.reconciliation.conftest import FOR_US, Books

if TYPE_CHECKING:
    from shared.organizations.model import Organization


async def test_a_payment_whose_event_never_arrived_is_found_and_repaired_once(
    books: Books,
) -> None:
    await books.lose("*", times=99)
    payment = await books.shop.charge(**FOR_US)
    found = await books.found()
    assert (FindingKind.CHARGED_NOT_CREDITED, payment) in found
    assert len([kind for kind, _ in found if kind is FindingKind.MISSING_EVENT]) == 1
    assert await books.balance() == 0

    repaired = await books.run(RunMode.REPAIR)
    assert (repaired.repaired, repaired.drift) == (1, 0)
    assert await books.balance() == 20
    assert (await books.run()).findings == {}


async def test_a_payment_without_an_event_is_credited_and_a_late_event_changes_nothing(
    books: Books,
) -> None:
    await books.lose("*", "never_generated", times=99)
    payment = await books.shop.charge(**FOR_US)
    assert await books.found() == {(FindingKind.CHARGED_NOT_CREDITED, payment)}
    summary = await books.run(RunMode.REPAIR)
    (finding,) = await books.findings(summary)
    assert (finding.outcome, finding.credits) == (Outcome.REPAIRED, Decimal(20))
    assert await books.balance() == 20
    await books.shop.sim("events", type="payment_intent.succeeded", object=payment)
    await books.shop.deliver_new()
    assert await books.balance() == 20
    assert (await books.run()).findings == {}


async def test_a_missing_event_is_applied_as_it_was_sent(books: Books) -> None:
    await books.lose("payment_intent.succeeded")
    await books.shop.charge(**FOR_US)
    summary = await books.run(RunMode.EVENTS)
    findings = {finding.kind: finding for finding in await books.findings(summary)}
    event = findings[FindingKind.MISSING_EVENT]
    assert (event.outcome, event.credits) == (Outcome.REPAIRED, Decimal(20))
    states = await event_states(books.pool)
    assert states[event.object_id] == "applied"
    assert summary.drift == 0


async def test_a_report_changes_nothing_and_a_preview_says_what_a_repair_would_do(
    books: Books,
) -> None:
    await books.lose("*", "never_generated", times=99)
    payment = await books.shop.charge(**FOR_US)
    preview = await books.run(RunMode.PREVIEW)
    (finding,) = await books.findings(preview)
    assert (finding.object_id, finding.outcome) == (payment, Outcome.REPAIRABLE)
    assert finding.credits == 20
    assert await books.pool.fetchval("SELECT count(*) FROM stripe_payments") == 0
    assert await transactions(books.pool) == []


async def test_a_preview_of_a_missing_event_applies_it_and_rolls_it_back(books: Books) -> None:
    await books.lose("payment_intent.succeeded")
    await books.shop.charge(**FOR_US)
    preview = await books.run(RunMode.PREVIEW)
    credits_ = {f.kind: (f.outcome, f.credits) for f in await books.findings(preview)}
    assert credits_ == dict.fromkeys(
        (FindingKind.MISSING_EVENT, FindingKind.CHARGED_NOT_CREDITED),
        (Outcome.REPAIRABLE, Decimal(20)),
    )
    assert await event_states(books.pool) == {}
    assert await transactions(books.pool) == []


async def test_payments_of_other_products_are_no_difference(books: Books) -> None:
    await books.lose("*", "never_generated", times=99)
    customer = await books.shop.client.v1.customers.create_async({"name": "Else"})
    await books.shop.charge()
    await books.shop.charge(customer=customer.id)
    await books.shop.pay(await books.shop.open())
    summary = await books.run(RunMode.REPAIR)
    assert summary.findings == {}
    assert summary.run.checked > 0


async def test_a_checkout_is_credited_by_its_net_price(books: Books) -> None:
    await books.lose("*", "never_generated", times=99)
    session = await books.shop.open(automatic_tax={"enabled": True}, **FOR_US)
    payment = await books.shop.pay(session, tax_percent=20)
    summary = await books.run(RunMode.REPAIR)
    (finding,) = await books.findings(summary)
    assert (finding.object_id, finding.outcome) == (payment, Outcome.REPAIRED)
    assert await books.balance() == 25
    assert (await books.run()).findings == {}


async def test_a_payment_that_was_credited_and_that_stripe_lacks_is_for_a_person(
    books: Books, organization: Organization
) -> None:
    await books.pool.execute(
        "INSERT INTO stripe_payments"
        " (payment_intent_id, organization_id, amount_minor, currency, credits, created_at)"
        " VALUES ('pi_of_nobody', $1, 2000, 'usd', 20, $2)",
        organization.id,
        books.since,
    )
    (finding,) = await books.findings(await books.run(RunMode.REPAIR))
    assert (finding.kind, finding.object_id) == (
        FindingKind.CREDITED_NOT_CHARGED,
        "pi_of_nobody",
    )
    assert finding.outcome is Outcome.REFUSED
    assert "Stripe has no such payment" in finding.detail


async def test_a_payment_of_an_unknown_organization_is_reported_with_its_reason(
    books: Books,
) -> None:
    await books.lose("*", "never_generated", times=99)
    await books.shop.charge(metadata={"organization_id": "nobody"})
    (finding,) = await books.findings(await books.run(RunMode.REPAIR))
    assert (finding.kind, finding.outcome) == (
        FindingKind.CHARGED_NOT_CREDITED,
        Outcome.REFUSED,
    )
    assert "nobody" in finding.detail


async def test_a_payment_that_is_credited_while_a_run_is_under_way_is_no_difference(
    books: Books,
) -> None:
    payment = await books.shop.charge(**FOR_US)
    summary = await books.run_and_meanwhile(books.shop.deliver_new)
    assert summary.findings == {}
    assert summary.run.checked > 0
    assert await books.balance() == 20
    assert payment


async def test_a_purchase_from_before_the_period_that_a_bank_has_paid_is_credited(
    books: Books, organization: Organization
) -> None:
    """The PaymentIntent of a bank debit is days older than its payment."""
    purchase = uuid4()
    metadata = {"organization_id": str(organization.id), "purchase_id": str(purchase)}
    session = await books.shop.open(metadata=metadata)
    await books.pool.execute(
        "INSERT INTO purchases (id, organization_id, amount_minor, currency, credits,"
        " credits_per_unit, closes_at, created_at, checkout_session_id)"
        " VALUES ($1, $2, 2500, 'usd', 25, 1, now() + interval '14 days', $3, $4)",
        purchase,
        organization.id,
        books.since,
        session,
    )
    await books.lose("*", "never_generated", times=99)
    payment = await books.shop.pay(session)
    await books.begin_a_new_period()
    assert await books.found() == {(FindingKind.CHARGED_NOT_CREDITED, payment)}
    await books.run(RunMode.REPAIR)
    assert await books.balance() == 25
    assert (await books.run()).findings == {}


async def test_a_payment_that_is_bound_and_not_on_the_ledger_is_found_and_credited(
    books: Books, organization: Organization
) -> None:
    await books.lose("*", "never_generated", times=99)
    payment = await books.shop.charge(**FOR_US)
    await books.pool.execute(
        "INSERT INTO stripe_payments"
        " (payment_intent_id, organization_id, amount_minor, currency, credits, created_at)"
        " VALUES ($1, $2, 2000, 'usd', 20, $3)",
        payment,
        organization.id,
        books.since,
    )
    assert await books.found() == {(FindingKind.CHARGED_NOT_CREDITED, payment)}
    await books.run(RunMode.REPAIR)
    assert await books.balance() == 20
    assert (await books.run()).findings == {}


async def test_a_payment_that_fails_to_apply_stops_no_other(books: Books) -> None:
    await books.lose("*", "never_generated", times=99)
    refused, credited = await books.shop.charge(**FOR_US), await books.shop.charge(700, **FOR_US)
    await fail_postings(books.pool, refused)
    summary = await books.run(RunMode.REPAIR)
    (problem,) = summary.run.problems
    assert problem.detail.startswith(refused)
    assert {f.object_id for f in await books.findings(summary)} == {credited}
    assert await books.balance() == 7
