"""Unexpected failures of an event: its attempts, and the breaker of its type."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from sandbox.signed_events import event
from shared.events.service import Applier
from shared.inbox import rules
from shared.inbox import store as inbox
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
    transactions,
)
from tests.integration.events import (
    CUSTOMER,
    apply,
    make_due,
    open_purchase,
    purchase_state,
    session,
)
from worker.drainer import Drainer

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization


# Failures that nobody expected


async def test_a_poisoned_event_does_not_take_its_batch_with_it(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await fail_postings(pool, "pi_poison")
    await apply(pool, drainer, *(payment(str(n)) for n in range(9)), payment("poison"))
    states = await event_states(pool)
    assert states.pop("evt_poison") == "retrying"
    assert set(states.values()) == {"applied"}
    assert await balance(pool) == 90


async def test_an_unexpected_failure_is_kept_with_its_class_and_trace_and_tried_again(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await fail_postings(pool)
    await apply(pool, drainer, payment("1"))
    row = await event_row(pool, "evt_1")
    assert (row["state"], row["attempts"], row["lease_token"]) == ("retrying", 1, None)
    assert "the handler is broken" in row["reason"]
    assert "Traceback" in row["error_trace"]
    assert row["error_class"] == "RaiseError"
    assert row["available_at"] > row["received_at"]


async def test_an_event_that_fails_every_attempt_is_dead_with_its_last_error(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await fail_postings(pool)
    await receive(pool, payment("1"))
    for attempt in range(1, rules.ATTEMPTS_MAX):
        await drainer.drain()
        row = await event_row(pool, "evt_1")
        assert (row["state"], row["attempts"]) == ("retrying", attempt)
        await make_due(pool)
    await drainer.drain()
    row = await event_row(pool, "evt_1")
    assert (row["state"], row["attempts"], row["error_class"]) == (
        "dead",
        rules.ATTEMPTS_MAX,
        "RaiseError",
    )
    assert "the handler is broken" in row["error_trace"]
    assert row["settled_at"] is not None


async def test_a_failure_that_passes_is_applied_at_the_next_attempt_and_its_error_is_forgotten(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await fail_postings(pool)
    await apply(pool, drainer, payment("1"))
    await mend_postings(pool)
    await make_due(pool)
    await drainer.drain()
    row = await event_row(pool, "evt_1")
    assert (row["state"], row["attempts"], row["error_class"]) == ("applied", 2, None)
    assert await balance(pool) == 10


async def test_a_failed_attempt_leaves_nothing_of_its_effects(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    purchase_id = await open_purchase(pool, organization, "1")
    await fail_postings(pool)
    await apply(pool, drainer, session("1", customer=CUSTOMER))
    assert await transactions(pool) == []
    assert await pool.fetchval("SELECT count(*) FROM stripe_payments") == 0
    assert await purchase_state(pool, purchase_id) == "open"
    assert await pool.fetchval("SELECT stripe_customer_id FROM organizations") is None


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "x" * 100_000])
async def test_whatever_an_error_says_it_is_recorded_and_the_drain_goes_on(
    pool: Pool, organization: Organization, text: str
) -> None:
    def fail() -> UUID:
        raise RuntimeError(text)

    broken = Drainer(pool, Applier(pool, SaleTerms(Decimal(1)), make_id=fail), make_token=uuid4)
    await apply(pool, broken, payment("1"), event("2", "customer.created", {}))
    assert await event_states(pool) == {"evt_1": "retrying", "evt_2": "ignored"}


# The breaker


async def test_a_type_that_fails_ten_times_in_a_row_pauses_and_no_more_of_it_is_tried(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await fail_postings(pool)
    await apply(pool, drainer, *(payment(str(n)) for n in range(15)))
    states = list((await event_states(pool)).values())
    assert (states.count("retrying"), states.count("received")) == (10, 5)
    row = await pool.fetchrow("SELECT *, paused_until > now() AS paused FROM event_breakers")
    assert row is not None
    assert (row["event_type"], row["failures_in_row"], row["paused"]) == (
        "payment_intent.succeeded",
        10,
        True,
    )
    untried = await pool.fetchval(
        "SELECT max(attempts) FROM stripe_events WHERE state = 'received'"
    )
    assert untried == 0


async def test_a_paused_type_holds_back_no_other(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await fail_postings(pool, "pi_bad%")
    await apply(pool, drainer, *(payment(f"bad{n}") for n in range(10)))
    await apply(pool, drainer, payment("held"), session("1"))
    states = await event_states(pool)
    assert (states["evt_held"], states["evt_cs_1_completed"]) == ("received", "applied")


async def test_one_success_of_a_type_ends_its_pause(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await fail_postings(pool)
    await apply(pool, drainer, *(payment(str(n)) for n in range(12)))
    await mend_postings(pool)
    await make_due(pool)
    await pool.execute("UPDATE stripe_events SET available_at = now()")
    await drainer.drain()
    assert set((await event_states(pool)).values()) == {"applied"}
    assert await pool.fetchval("SELECT count(*) FROM event_breakers") == 0
    assert await balance(pool) == 120


async def test_after_a_pause_one_more_failure_pauses_the_type_again(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await fail_postings(pool)
    await apply(pool, drainer, *(payment(str(n)) for n in range(12)))
    await make_due(pool)
    await drainer.drain()
    row = await pool.fetchrow("SELECT *, paused_until > now() AS paused FROM event_breakers")
    assert row is not None
    assert (row["failures_in_row"], row["paused"]) == (11, True)


async def test_failures_between_successes_do_not_pause_a_type(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await fail_postings(pool, "pi_bad%")
    for n in range(12):
        await apply(pool, drainer, payment(f"bad{n}"))
        await apply(pool, drainer, payment(f"good{n}"))
    assert await balance(pool) == 120


async def test_dead_events_do_not_count_as_failures_of_their_type(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await apply(pool, drainer, *(payment(str(n), organization="nobody") for n in range(15)))
    assert set((await event_states(pool)).values()) == {"dead"}
    assert await pool.fetchval("SELECT count(*) FROM event_breakers") == 0


async def test_a_batch_whose_statement_takes_too_long_is_halved(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    """One by one, 200 events would take as many transactions on a server that is slow already."""
    await pool.execute(
        "CREATE FUNCTION cancel_large() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF (SELECT count(*) FROM bound) > 4 THEN"
        " RAISE EXCEPTION 'canceling statement due to statement timeout'"
        " USING ERRCODE = 'query_canceled'; END IF; RETURN NULL; END $$"
    )
    await pool.execute(
        "CREATE TRIGGER slow AFTER INSERT ON stripe_payments REFERENCING NEW TABLE AS bound"
        " FOR EACH STATEMENT EXECUTE FUNCTION cancel_large()"
    )
    await apply(pool, drainer, *(payment(str(n)) for n in range(8)))
    assert set((await event_states(pool)).values()) == {"applied"}
    assert await balance(pool) == 80
    commits = await pool.fetchval("SELECT count(DISTINCT xmin::text) FROM stripe_payments")
    assert commits == 2


async def test_a_batch_is_halved_only_while_the_time_of_its_pass_lasts(
    pool: Pool, organization: Organization, applier: Applier
) -> None:
    """The rest is released untried: halves that take their time outlive the lease."""
    globex = await create_organization(pool, "globex")
    await receive(
        pool, *(payment(str(n), organization=slug) for n, slug in enumerate(["acme", "globex"] * 4))
    )
    token = uuid4()
    async with pool.acquire() as connection:
        events = await inbox.claim(connection, rows_max=8, token=token, lease=LEASE)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "SELECT FROM accounts WHERE organization_id = $1 FOR UPDATE", globex.id
        )
        # The first wait for the lock takes longer than a third of this.
        await applier.apply_without_asking(token, events, timedelta(milliseconds=300))
    rows = await pool.fetch(
        "SELECT DISTINCT state, lane, attempts, lease_token, reason FROM stripe_events"
    )
    assert [tuple(row) for row in rows] == [("received", "alone", 0, None, None)]
