"""Missing events: inserted, applied a few at once, and counted as repaired once they are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from shared.payments.lookup import StripeLookup
from shared.reconciliation.context import CANDIDATES_AT_ONCE_MAX
from shared.reconciliation.model import FindingKind, Outcome, RunMode
from tests.fixtures.product import event_states, fail_postings, mend_postings
from tests.integration.reconciliation.conftest import FOR_US, Books

if TYPE_CHECKING:
    from collections.abc import Collection

    from shared.payments.lookup import Answers, Question

EVENTS = 3 * CANDIDATES_AT_ONCE_MAX


@dataclass
class CountedLookup:
    """Reads from Stripe, and counts the questions that wait for their answer."""

    lookup: StripeLookup
    waiting: int = 0
    waiting_most: int = 0
    asked: int = 0

    async def answers(self, questions: Collection[Question]) -> Answers:
        self.waiting += len(questions)
        self.asked += len(questions)
        self.waiting_most = max(self.waiting_most, self.waiting)
        try:
            return await self.lookup.answers(questions)
        finally:
            self.waiting -= len(questions)


async def test_events_ask_stripe_a_few_at_once_whatever_the_length_of_a_page(
    books: Books,
) -> None:
    await books.lose("payment_intent.succeeded", times=EVENTS)
    for _ in range(EVENTS):
        await books.shop.charge(100, **FOR_US)
    counted = CountedLookup(StripeLookup(books.client))
    reconciliation = books.reconciliation
    tools = replace(
        reconciliation.tools, applier=replace(reconciliation.tools.applier, lookup=counted)
    )
    begun = await books.begin(RunMode.EVENTS)
    summary = await replace(reconciliation, tools=tools).run(begun)
    assert counted.asked >= EVENTS
    assert counted.waiting_most <= CANDIDATES_AT_ONCE_MAX
    assert (summary.repaired, summary.drift) == (EVENTS, 0)
    assert await books.balance() == EVENTS


async def test_an_event_that_is_tried_again_is_not_repaired_until_it_is_applied(
    books: Books,
) -> None:
    await books.lose("payment_intent.succeeded")
    await books.shop.charge(**FOR_US)
    await fail_postings(books.pool)
    summary = await books.run(RunMode.EVENTS)
    (finding,) = await books.findings(summary)
    assert (finding.kind, finding.outcome) == (FindingKind.MISSING_EVENT, Outcome.FOUND)
    assert "inserted, and tried again" in finding.detail
    assert await event_states(books.pool) == {finding.object_id: "retrying"}
    assert summary.repaired == 0
    assert await books.balance() == 0


async def test_an_event_that_a_worker_applies_before_the_run_ends_is_repaired(
    books: Books,
) -> None:
    await books.lose("payment_intent.succeeded")
    await books.shop.charge(**FOR_US)
    await fail_postings(books.pool)

    async def retry() -> None:
        await mend_postings(books.pool)
        await books.pool.execute("UPDATE stripe_events SET available_at = now()")
        await books.shop.deliver()

    summary = await books.run_and_meanwhile(retry, RunMode.EVENTS)
    (finding,) = await books.findings(summary)
    assert (finding.kind, finding.outcome) == (FindingKind.MISSING_EVENT, Outcome.REPAIRED)
    assert finding.detail.endswith("tried again, until it was applied")
    assert await books.balance() == 20


async def test_an_event_that_can_never_be_applied_is_refused_with_its_reason(
    books: Books,
) -> None:
    await books.lose("payment_intent.succeeded")
    await books.shop.charge(metadata={"organization_id": "nobody"})
    summary = await books.run(RunMode.EVENTS)
    (finding,) = [f for f in await books.findings(summary) if f.kind is FindingKind.MISSING_EVENT]
    assert finding.outcome is Outcome.REFUSED
    assert "inserted, and dead: " in finding.detail
    assert "nobody" in finding.detail
    assert await event_states(books.pool) == {finding.object_id: "dead"}


async def test_an_event_of_another_mode_is_stored_in_quarantine_and_refused(
    books: Books,
) -> None:
    await books.lose("payment_intent.succeeded")
    await books.shop.charge(**FOR_US)
    live = replace(books.settings, stripe_api_key="sk_live_123")
    summary = await replace(books, settings=live).run(RunMode.EVENTS)
    (finding,) = [f for f in await books.findings(summary) if f.kind is FindingKind.MISSING_EVENT]
    assert finding.outcome is Outcome.REFUSED
    assert "inserted, and quarantined: a test event" in finding.detail
    assert await event_states(books.pool) == {finding.object_id: "quarantined"}
