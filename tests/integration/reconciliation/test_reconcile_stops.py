"""A process that dies within a page: nothing is lost, repaired twice or counted twice."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import pytest

from shared.events.service import Applier
from shared.ids import new_id
from shared.reconciliation import store
from shared.reconciliation.application import Application, Effect
from shared.reconciliation.model import FindingKind, Outcome, RunMode
from tests.fixtures.product import event_states, transactions
from tests.integration.reconciliation.conftest import FOR_US, Books, Interrupted

if TYPE_CHECKING:
    from shared.events.model import ProcessedEvent
    from shared.inbox.model import ClaimedEvent

PAYMENTS = 12
COMMITS = 5


class DyingApplication(Application):
    """Commits some repairs; then the process dies."""

    numbers = itertools.count(1)

    async def commit(self, event: ClaimedEvent, record: Any) -> Effect:
        if next(self.numbers) > COMMITS:
            raise Interrupted
        return await super().commit(event, record)


class DyingApplier(Applier):
    """The process dies when it has events to apply."""

    async def apply(self, *_given: object, **_more: object) -> list[ProcessedEvent]:
        raise Interrupted


async def test_a_repair_and_its_finding_commit_together(books: Books) -> None:
    await books.lose("*", "never_generated", times=10_000)
    payments = {await books.shop.charge(100, **FOR_US) for _ in range(PAYMENTS)}
    reconciliation = books.reconciliation
    application = reconciliation.tools.application
    dying = DyingApplication(**{f.name: getattr(application, f.name) for f in fields(application)})
    begun = await books.begin(RunMode.REPAIR)
    tools = replace(reconciliation.tools, application=dying)
    with pytest.raises(Interrupted):
        await replace(reconciliation, tools=tools).run(begun)
    stopped = await books.stored(begun)
    assert stopped.checked == 0
    assert await books.balance() == COMMITS
    assert await outcomes(books) == [Outcome.REPAIRED] * COMMITS

    summary = await reconciliation.run(stopped)
    assert {finding.object_id for finding in await books.findings(summary)} == payments
    assert await outcomes(books) == [Outcome.REPAIRED] * PAYMENTS
    assert (summary.run.checked, summary.repaired, summary.drift) == (PAYMENTS, PAYMENTS, 0)
    assert await books.balance() == PAYMENTS
    assert len(await transactions(books.pool)) == PAYMENTS


async def test_events_that_are_inserted_as_the_process_dies_are_applied_after_their_lease(
    books: Books,
) -> None:
    await books.lose("payment_intent.succeeded")
    await books.shop.charge(**FOR_US)
    reconciliation = books.reconciliation
    applier = reconciliation.tools.applier
    dying = DyingApplier(**{f.name: getattr(applier, f.name) for f in fields(applier)})
    begun = await books.begin(RunMode.EVENTS)
    tools = replace(reconciliation.tools, applier=dying)
    with pytest.raises(Interrupted):
        await replace(reconciliation, tools=tools).run(begun)
    assert await outcomes(books) == [Outcome.FOUND]
    await books.shop.deliver()
    assert list((await event_states(books.pool)).values()) == ["received"]  # it is leased

    await books.pool.execute("UPDATE stripe_events SET available_at = now()")
    await books.shop.deliver()
    assert await books.balance() == 20
    summary = await reconciliation.run(await books.stored(begun))
    assert list(summary.findings) == [FindingKind.MISSING_EVENT]
    assert await outcomes(books) == [Outcome.REPAIRED]


async def test_a_run_that_is_interrupted_leaves_no_list_of_what_it_has_seen(books: Books) -> None:
    await books.shop.charge(**FOR_US)
    await books.shop.deliver_new()
    await books.stop_at(await books.begin(), "payment_intents")
    seen = "SELECT count(*) FROM reconciliation_seen"
    assert await books.pool.fetchval(seen) == 1
    async with books.pool.acquire() as connection:
        await store.interrupt_others(connection, new_id())
    assert await books.pool.fetchval(seen) == 0


async def outcomes(books: Books) -> list[str]:
    rows = await books.pool.fetch("SELECT outcome FROM reconciliation_findings")
    return [row["outcome"] for row in rows]
