"""Runs: continued after a crash, one at a time, complete where Stripe refuses a list."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from prometheus_client import REGISTRY

from shared.access.model import Actor
from shared.errors import ConflictError, InvalidRequestError
from shared.ids import new_id
from shared.payments.paced_client import paced_client
from shared.reconciliation import service
from shared.reconciliation.model import FindingKind, Outcome, Run, RunMode, RunState
from shared.reconciliation.run import only_run
from tests.fixtures.product import transactions
from tests.integration.reconciliation.conftest import FOR_US, Books, Interrupted
from worker.reconciler import Reconciler

if TYPE_CHECKING:
    from sandbox.stripe.process import SimulatorProcess
    from shared.organizations.model import Organization

PAYMENTS = 110  # two pages of Stripe's list


async def test_a_run_that_is_killed_continues_from_its_last_page(books: Books) -> None:
    await books.lose("*", "never_generated", times=10_000)
    for _ in range(PAYMENTS):
        await books.shop.charge(100, **FOR_US)
    pages: list[int] = []

    def at(name: str, run: Run) -> None:
        pages.append(run.checked)
        if name == "payment_intents":
            raise Interrupted

    begun = await books.begin(RunMode.REPAIR)
    with pytest.raises(Interrupted):
        await replace(books.reconciliation, on_progress=at).run(begun)
    stopped = await books.stored(begun)
    assert stopped.state is RunState.RUNNING
    assert 0 < stopped.checked < PAYMENTS
    assert 0 < await books.balance() < PAYMENTS

    summary = await books.reconciliation.run(stopped)
    assert summary.run.state is RunState.FINISHED
    assert summary.count(FindingKind.CHARGED_NOT_CREDITED) == PAYMENTS
    assert (summary.repaired, summary.drift) == (PAYMENTS, 0)
    assert summary.run.checked == PAYMENTS
    assert await books.balance() == PAYMENTS
    assert len(await transactions(books.pool)) == PAYMENTS
    assert (await books.run()).findings == {}


async def test_a_second_run_at_the_same_time_is_refused(books: Books, database_url: str) -> None:
    async with only_run(database_url):
        with pytest.raises(ConflictError, match="Another reconciliation is running"):
            async with only_run(database_url):
                pass
    async with only_run(database_url):
        pass


async def test_a_list_that_the_key_may_not_read_is_named_and_the_others_are_compared(
    books: Books, stand_in: SimulatorProcess
) -> None:
    key = "rk_test_of_reconciliation_01"
    readable = ("payment_intent", "charge", "invoice", "checkout_session", "customer")
    await books.shop.sim(
        "restricted_keys", key=key, permissions=[f"rak_{name}_read" for name in readable]
    )
    await books.lose("*", "never_generated", times=9)
    await books.shop.charge(**FOR_US)
    async with paced_client(key, stand_in.url, per_second=1_000) as client:
        summary = await replace(books, client=client).run()
    assert summary.run.state is RunState.FINISHED
    assert [(p.list, p.permission) for p in summary.run.problems] == [
        ("events", "Events: Read"),
        ("disputes", "Disputes: Read"),
    ]
    assert summary.count(FindingKind.CHARGED_NOT_CREDITED) == 1
    await service.measure(books.pool)
    assert drift("not_compared") == 2


async def test_a_list_that_stripe_throttles_is_asked_for_again(books: Books) -> None:
    await books.lose("*", "never_generated", times=9)
    await books.shop.charge(**FOR_US)
    await books.shop.sim(
        "faults", method="GET", path="/v1/payment_intents", fault="rate_limited", retry_after=0
    )
    await books.shop.sim("faults", method="GET", path="/v1/refunds", fault="cut_mid_body")
    summary = await books.run(RunMode.REPAIR)
    assert (summary.repaired, summary.run.problems) == (1, [])


async def test_events_older_than_30_days_are_compared_by_their_objects(books: Books) -> None:
    await books.shop.charge(**FOR_US)
    later = books.since + timedelta(days=40)
    begun = replace(await books.begin(), requested_at=later)
    summary = await books.reconciliation.run(begun)
    assert list(summary.findings) == [FindingKind.CHARGED_NOT_CREDITED]


async def test_drift_is_measured_by_the_last_finished_run(books: Books) -> None:
    await books.lose("*", "never_generated", times=9)
    await books.shop.charge(**FOR_US)
    await books.run()
    await service.measure(books.pool)
    assert drift(FindingKind.CHARGED_NOT_CREDITED) == 1
    await books.run(RunMode.REPAIR)
    await service.measure(books.pool)
    assert drift(FindingKind.CHARGED_NOT_CREDITED) == 0


def drift(kind: str) -> float:
    return REGISTRY.get_sample_value("prepaid_reconcile_drift", {"kind": kind}) or 0


def reconciler(books: Books, stand_in: SimulatorProcess, database_url: str) -> Reconciler:
    settings = replace(books.settings, stripe_api_base=stand_in.url, database_url=database_url)
    return Reconciler(books.pool, settings)


async def test_a_worker_does_what_a_person_requests(
    books: Books, stand_in: SimulatorProcess, database_url: str
) -> None:
    await books.lose("*", "never_generated", times=9)
    await books.shop.charge(**FOR_US)
    async with books.pool.acquire() as connection, connection.transaction():
        now = books.since + timedelta(seconds=1)
        requested = await service.request_run(
            connection, new_id(), mode=RunMode.REPAIR, since=books.since, now=now,
            actor=Actor("operator"), reason="after the outage",
        )  # fmt: skip
    assert requested.state is RunState.REQUESTED
    await books.pool.execute("UPDATE reconciliation_runs SET due_at = now()")
    await reconciler(books, stand_in, database_url).run_once()
    async with books.pool.acquire() as connection:
        runs = await service.latest_runs(connection)
        summary = await service.find_run(connection, requested.id)
        (finding,) = await service.findings(connection, requested.id)
    assert (summary.run.state, summary.repaired) == (RunState.FINISHED, 1)
    assert finding.outcome is Outcome.REPAIRED
    assert [each.run.state for each in runs] == [RunState.REQUESTED, RunState.FINISHED]
    audited = await books.pool.fetchrow("SELECT actor, action, reason FROM audit_log")
    assert tuple(audited or ()) == ("operator", "reconciliation.run", "after the outage")


async def test_a_run_in_the_future_is_refused(books: Books) -> None:
    async with books.pool.acquire() as connection:
        with pytest.raises(InvalidRequestError, match="in the future"):
            await service.request_run(
                connection, new_id(), mode=RunMode.REPORT, since=books.since,
                now=books.since - timedelta(seconds=1), actor=Actor("operator"),
            )  # fmt: skip


async def test_the_schedule_inserts_missing_events_and_plans_its_next_run(
    books: Books, stand_in: SimulatorProcess, database_url: str, organization: Organization
) -> None:
    await books.lose("payment_intent.succeeded")
    await books.shop.charge(**FOR_US)
    # The simulator has what earlier tests sold, an hour before and more.
    window = replace(books.settings.reconcile, window=timedelta(minutes=30))
    books = replace(books, settings=replace(books.settings, reconcile=window))
    await reconciler(books, stand_in, database_url).run_once()
    (planned,) = await planned_runs(books)
    assert planned.due_at > planned.requested_at
    assert await books.balance() == 0

    await books.pool.execute("UPDATE reconciliation_runs SET due_at = now()")
    ahead = Reconciler(
        books.pool,
        replace(books.settings, stripe_api_base=stand_in.url, database_url=database_url),
        now=lambda: books.since + timedelta(minutes=15),
    )
    await ahead.run_once()
    await ahead.run_once()
    assert await books.balance() == 20
    done, planned = reversed(await planned_runs(books))
    assert (done.state, done.mode) == (RunState.FINISHED, RunMode.EVENTS)
    assert planned.state is RunState.REQUESTED


async def planned_runs(books: Books) -> list[Run]:
    async with books.pool.acquire() as connection:
        return [each.run for each in await service.latest_runs(connection) if each.run.scheduled]
