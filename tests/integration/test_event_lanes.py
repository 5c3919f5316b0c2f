"""One event that waits, fails or kills its worker holds up no other."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from sandbox.signed_events import event
from shared.db.pool import UNAVAILABLE
from shared.errors import LeaseLostError
from shared.events.service import Applier
from shared.inbox import rules, store
from shared.inbox.model import Lane
from shared.payments.customers import bind_customers
from shared.payments.model import SaleTerms
from tests.fixtures.product import (
    LEASE,
    balance,
    create_organization,
    event_row,
    event_states,
    fail_postings,
    mend_postings,
    payment,
    receive,
    until,
)
from tests.integration.invoices import reversal
from tests.integration.test_event_owners import waiting_for_locks
from worker import drainer as drainer_module
from worker.drainer import LIMITS, Drainer
from worker.sweeper import Sweeper

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from shared.db.pool import Pool
    from shared.inbox.model import ClaimedEvent
    from shared.organizations.model import Organization
    from shared.payments.lookup import StripeLookup
    from shared.replay.service import Replayer
    from tests.fixtures.stripe_answers import StripeAnswers


# A test that would wait for good fails after this.
WAIT_SECONDS_MAX = 60
LOCK_ACCOUNT = "SELECT FROM accounts WHERE organization_id = $1 FOR UPDATE"


async def make_due(pool: Pool) -> None:
    """Let leases and backoffs end."""
    await pool.execute("UPDATE stripe_events SET available_at = now() WHERE settled_at IS NULL")


async def until_claimed(pool: Pool, event_id: str) -> None:
    async def claimed() -> bool:
        return (await event_row(pool, event_id))["lease_token"] is not None

    await until(claimed)


def holding_new(applier: Applier, end: asyncio.Event) -> Applier:
    """Return an applier that does not begin with batches of the events `evt_new…` until `end`."""

    class Holding(Applier):
        async def apply_without_asking(
            self, token: UUID, events: Sequence[ClaimedEvent], kept: timedelta = LEASE
        ) -> bool:
            if any(event.id.startswith("evt_new") for event in events):
                await end.wait()
            return await super().apply_without_asking(token, events, kept)

    return Holding(applier.pool, applier.terms)


# Locks


async def test_events_of_others_are_applied_while_one_account_is_locked(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    """R7: the lock is held to the end, by another connection."""
    await create_organization(pool, "other")
    locked = [payment(f"a{n}") for n in range(rules.BREAKER_FAILURES + 1)]
    await receive(pool, *locked, *(payment(f"b{n}", organization="other") for n in range(39)))
    await pool.execute(
        "UPDATE stripe_events SET attempts = $1 WHERE id = 'evt_a0'", rules.ATTEMPTS_MAX - 1
    )
    async with pool.acquire() as holder, holder.transaction():
        await holder.execute(LOCK_ACCOUNT, organization.id)
        await drainer.drain_new()
        assert await balance(pool, "other") == 390
        row = await event_row(pool, "evt_a1")
        assert (row["state"], row["error_class"]) == ("retrying", "LockNotAvailableError")
        assert row["attempts"] >= 1
        assert row["available_at"] > row["received_at"]
        last = await event_row(pool, "evt_a0")
        assert (last["state"], last["attempts"]) == ("dead", rules.ATTEMPTS_MAX)
        assert "lock" in last["reason"]
        assert await pool.fetchval("SELECT count(*) FROM event_breakers") == 0
    await make_due(pool)
    await drainer.drain()
    assert await balance(pool) == 10 * rules.BREAKER_FAILURES


async def test_a_drain_of_a_backlog_ends_while_the_second_batch_is_held_up(
    pool: Pool, organization: Organization, applier: Applier
) -> None:
    """Who reads wakeups goes on reading them."""
    end = asyncio.Event()
    drainer = Drainer(pool, holding_new(applier, end), make_token=uuid4)
    rows = LIMITS[Lane.SHARED].rows_max
    await receive(pool, *(payment(f"old{n}") for n in range(rows)))
    await receive(pool, *(payment(f"new{n}") for n in range(rows)))
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        assert await drainer.drain_new() == rows
        assert await balance(pool) == 10 * rows
        end.set()
        await drainer.drain()
    assert await balance(pool) == 20 * rows


async def test_an_event_that_is_due_again_is_applied_while_draining_the_new_ones_does_not_end(
    pool: Pool, organization: Organization, applier: Applier
) -> None:
    """All slots of new events are taken, as under a load that lasts."""
    end = asyncio.Event()
    drainer = Drainer(pool, holding_new(applier, end), make_token=uuid4)
    draining = []
    for n in range(LIMITS[Lane.SHARED].at_once_max):
        await receive(pool, payment(f"new{n}"))
        draining.append(asyncio.create_task(drainer.drain_new()))
        await until_claimed(pool, f"evt_new{n}")
    stop = asyncio.Event()
    sweeping = asyncio.create_task(Sweeper(drainer, 0.01).run(stop))
    await receive(pool, payment("again"))
    # It fails, and is due again, after the sweeper has looked at its lane.
    await pool.execute(
        "UPDATE stripe_events SET state = 'retrying', lane = 'alone', attempts = 1,"
        " available_at = now() + interval '0.2 s' WHERE id = 'evt_again'"
    )

    async def applied() -> bool:
        return (await event_states(pool))["evt_again"] == "applied"

    await until(applied)
    end.set()
    stop.set()
    await asyncio.gather(sweeping, *draining)
    assert set((await event_states(pool)).values()) == {"applied"}


@pytest.mark.parametrize("code", ["57014", "40P01"], ids=["statement timeout", "deadlock"])
async def test_a_timeout_or_a_deadlock_is_a_failed_attempt_of_its_event_alone(
    pool: Pool, organization: Organization, drainer: Drainer, code: str
) -> None:
    """R7."""
    await fail_postings(pool, "pi_slow%")
    await pool.execute(
        "CREATE OR REPLACE FUNCTION break_posting() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION 'it waited too long' USING ERRCODE = '{code}'; END $$"
    )
    await receive(pool, payment("slow"), *(payment(str(n)) for n in range(5)))
    await drainer.drain()
    assert await balance(pool) == 50
    row = await event_row(pool, "evt_slow")
    assert (row["state"], row["attempts"], row["lane"]) == ("retrying", 1, "alone")
    assert "it waited too long" in row["reason"]


async def test_an_event_gives_way_to_whoever_waits_for_it_in_a_circle(
    pool: Pool, organization: Organization
) -> None:
    """The batch has the customer and waits for the account; the holder, the other way round."""
    terms = SaleTerms(Decimal(1), credit_customer_payments=True)
    drainer = Drainer(pool, Applier(pool, terms), make_token=uuid4)
    await receive(pool, payment("1"), payment("2", metadata={}, customer="cus_1"))
    async with pool.acquire() as holder, holder.transaction():
        await holder.execute(LOCK_ACCOUNT, organization.id)
        draining = asyncio.create_task(drainer.drain())
        await waiting_for_locks(pool, 1)
        await bind_customers(holder, {organization.id: "cus_1"})
    await draining
    await make_due(pool)
    await drainer.drain()
    assert await balance(pool) == 20


# Events that take their worker with them


async def test_an_event_that_kills_its_workers_is_dead_and_takes_no_other_with_it(
    pool: Pool, organization: Organization, drainer: Drainer, replayer: Replayer
) -> None:
    await fail_postings(pool, "pi_poison")
    await pool.execute(
        "CREATE OR REPLACE FUNCTION break_posting() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid(), 1000); RETURN new; END $$"
    )
    names = [str(n) for n in range(45)]
    names.insert(20, "poison")
    await receive(pool, *map(payment, names))
    crashes = 0
    while "received" in (await event_states(pool)).values():
        try:
            await drainer.drain()
        except UNAVAILABLE:  # to the inbox, it is as if the worker had died
            crashes += 1
        await make_due(pool)
    row = await event_row(pool, "evt_poison")
    assert (row["state"], row["error_class"]) == ("dead", "LeasesLostError")
    assert "5 workers in a row died" in row["reason"]
    assert crashes == rules.LEASES_LOST_MAX
    assert await balance(pool) == 450
    others = "SELECT max(leases_lost) FROM stripe_events WHERE id <> $1"
    assert await pool.fetchval(others, row["id"]) <= 2
    await mend_postings(pool)
    report = await replayer.replay([row["id"]], actor="test", reason="mended")
    assert report["applied"] == 1


@pytest.mark.parametrize("lanes", [(Lane.SHARED, Lane.ALONE), (Lane.STRIPE, Lane.STRIPE)])
async def test_what_lost_two_leases_is_claimed_with_no_other(
    pool: Pool, lanes: tuple[Lane, Lane]
) -> None:
    await receive(pool, payment("1"), payment("2"))
    await pool.execute("UPDATE stripe_events SET lane = $1", lanes[0])
    async with pool.acquire() as connection:
        for lane, claimed in [(lanes[0], 2), (lanes[1], 2), (Lane.SUSPECT, 1)]:
            events = await store.claim(
                connection,
                rows_max=LIMITS[lane].rows_max,
                token=uuid4(),
                lease=timedelta(0),
                lane=lane,
            )
            assert len(events) == claimed
    assert events[0].leases_lost == 2


# Stripe


async def stripe_is_asked(stripe_answers: StripeAnswers) -> None:
    async def asked() -> bool:
        return bool(stripe_answers.asked)

    await until(asked)


async def test_events_that_wait_for_stripe_hold_up_no_other(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    """The answers come when everything else is applied."""
    for n in range(22):
        stripe_answers.pay(f"refunded{n}")
        stripe_answers.refund(400, f"refunded{n}")
    stripe_answers.gate.clear()
    await receive(pool, *(reversal(f"refunded{n}") for n in range(22)))
    await asking.drain_new()
    await stripe_is_asked(stripe_answers)
    others = [event(f"other{n}", "customer.tax_id.created", {}) for n in range(5)]
    await receive(pool, *others)
    assert await asking.drain_new() == 5
    assert set((await event_states(pool)).values()) == {"received", "ignored"}
    stripe_answers.gate.set()
    await asking.drain()
    assert await balance(pool) == 132


async def test_an_event_of_which_a_worker_stopped_while_stripe_was_asked_is_given_back(
    pool: Pool,
    organization: Organization,
    asking: Drainer,
    stripe_answers: StripeAnswers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drainer_module, "STOP_SECONDS_MAX", 0.1)
    stripe_answers.pay()
    stripe_answers.gate.clear()
    await receive(pool, reversal())
    await asking.drain_new()
    await stripe_is_asked(stripe_answers)
    await asking.close()
    row = await pool.fetchrow("SELECT *, available_at <= now() AS due FROM stripe_events")
    assert row is not None
    assert (row["lane"], row["attempts"], row["lease_token"], row["due"]) == (
        "stripe",
        0,
        None,
        True,
    )
    stripe_answers.gate.set()


async def test_an_event_that_stripe_throttles_has_failed_at_nothing(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay()
    stripe_answers.status = 429
    await receive(pool, reversal())
    await asking.drain()
    (row,) = await pool.fetch("SELECT *, available_at > now() AS later FROM stripe_events")
    assert (row["state"], row["attempts"], row["lane"], row["later"]) == (
        "received",
        0,
        "stripe",
        True,
    )
    stripe_answers.status = 200
    await make_due(pool)
    await asking.drain()
    assert await balance(pool) == 10


async def test_a_worker_that_lost_its_lease_asks_stripe_nothing(
    pool: Pool, organization: Organization, lookup: StripeLookup, stripe_answers: StripeAnswers
) -> None:
    await receive(pool, reversal())
    tokens = [uuid4(), uuid4()]
    async with pool.acquire() as connection:
        late = await store.claim(
            connection, rows_max=1, token=tokens[0], lease=timedelta(0), lane=Lane.SHARED
        )
        await store.claim(connection, rows_max=1, token=tokens[1], lease=LEASE, lane=Lane.ALONE)
    applier = Applier(pool, SaleTerms(Decimal(1)), lookup=lookup)
    with pytest.raises(LeaseLostError):
        await applier.apply(tokens[0], late)
    assert stripe_answers.asked == []


async def test_an_event_that_no_answer_is_enough_for_fails_and_is_dead_at_the_limit(
    pool: Pool, organization: Organization
) -> None:
    class Silent:
        async def answers(self, _questions: Any) -> Any:
            return {}

    drainer = Drainer(pool, Applier(pool, SaleTerms(Decimal(1)), lookup=Silent()), make_token=uuid4)
    await receive(pool, reversal())
    await drainer.drain()
    (row,) = await pool.fetch("SELECT * FROM stripe_events")
    assert (row["state"], row["attempts"]) == ("retrying", 1)
    assert "is still not answered" in row["reason"]
    await pool.execute("UPDATE stripe_events SET attempts = $1", rules.ATTEMPTS_MAX - 1)
    await make_due(pool)
    await drainer.drain()
    (row,) = await pool.fetch("SELECT * FROM stripe_events")
    assert (row["state"], row["error_class"]) == ("dead", "QuestionsInRowError")


# Clocks


@pytest.mark.parametrize("hours", [1, -1])
async def test_a_workers_clock_that_jumps_moves_no_backoff_and_no_pause(
    pool: Pool, organization: Organization, hours: int
) -> None:
    def now() -> datetime:
        return datetime.now(UTC) + timedelta(hours=hours)

    await fail_postings(pool)
    drainer = Drainer(pool, Applier(pool, SaleTerms(Decimal(1)), now), make_token=uuid4)
    await receive(pool, *(payment(str(n)) for n in range(rules.BREAKER_FAILURES + 1)))
    await drainer.drain()
    waits = await pool.fetch(
        "SELECT available_at - now() AS wait FROM stripe_events"
        " UNION ALL SELECT paused_until - now() FROM event_breakers"
    )
    limit = timedelta(minutes=1)
    assert all(-limit < row["wait"] < limit for row in waits)
