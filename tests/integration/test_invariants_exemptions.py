"""Each exemption of an invariant: a state that breaks it, and the change after which it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.inbox.model import Lane
from tests.fixtures.invariants import (
    OLD,
    PROBLEM_VERIFICATION,
    SUSPENSION,
    UNFINISHED_VERIFICATION,
    attempt,
    check,
    event,
)
from tests.fixtures.product import payment, receive

if TYPE_CHECKING:
    from shared.db.pool import Pool

NEW_EVENT = event(f"attempts = 0, available_at = {OLD}")
RETRY = event(f"attempts = 3, available_at = {OLD}")
PAUSE = """
INSERT INTO event_breakers (event_type, failures_in_row, paused_until)
SELECT DISTINCT type, 10, now() + interval '5 minutes' FROM stripe_events
"""
CLEAN_VERIFICATION = """
INSERT INTO ledger_verifications (id, whole, after_organization_id, started_at, finished_at)
SELECT gen_random_uuid(), TRUE, id, now(), now() FROM organizations
"""
PAST_DEADLINE = attempt("unknown", due="now()", charged="now() - interval '27 hours'")
LATE = attempt("charging", due=OLD, charged="now()")
LATE_TOP_UP = attempt(
    "charging", due="now()", charged="now() - interval '3 hours'", trigger="top_up"
)

# Of each: the invariant, what breaks it, and the state beside it in which it must hold.
EXEMPTIONS = {
    "the type of a new event is paused": ("backlog_age", NEW_EVENT, PAUSE),
    "the type of a retried event is paused": ("events_on_time", RETRY, PAUSE),
    "an event is due for less than ten minutes": (
        "backlog_age",
        NEW_EVENT,
        event("attempts = 0, available_at = now() - interval '9 minutes'"),
    ),
    "an attempt waits for the installation's key": (
        "attempts_on_time",
        LATE,
        "UPDATE recharge_attempts SET blocked_by = 'key'",
    ),
    "an attempt is due for less than ten minutes": (
        "attempts_on_time",
        LATE,
        "UPDATE recharge_attempts SET due_at = now() - interval '9 minutes'",
    ),
    "an attempt is past its deadline within the grace": (
        "attempts_on_time",
        PAST_DEADLINE,
        "UPDATE recharge_attempts SET charged_at = now() - interval '25 hours'",
    ),
    "a rule's attempt is older than a top-up lasts": (
        "attempts_on_time",
        LATE_TOP_UP,
        "UPDATE recharge_attempts SET trigger = 'threshold'",
    ),
    "a top-up is past its lifetime within the grace": (
        "attempts_on_time",
        LATE_TOP_UP,
        "UPDATE recharge_attempts SET charged_at = now() - interval '2 hours'",
    ),
    "a person alone ends the suspension": (
        "suspensions_on_time",
        SUSPENSION,
        "UPDATE auto_recharges SET reason = 'operator', suspended_until = NULL",
    ),
    "the first verification runs": (
        "ledger",
        UNFINISHED_VERIFICATION,
        "DELETE FROM ledger_verifications WHERE started_at < now() - interval '36 hours'",
    ),
    "a whole verification found none of the problems": (
        "ledger",
        PROBLEM_VERIFICATION,
        CLEAN_VERIFICATION,
    ),
}


@pytest.fixture(autouse=True)
async def new_event(pool: Pool, organization: object) -> None:
    await receive(pool, payment("1"))


@pytest.mark.parametrize(("name", "broken", "exempt"), EXEMPTIONS.values(), ids=EXEMPTIONS.keys())
async def test_an_invariant_holds_where_its_exemption_applies(
    pool: Pool, name: str, broken: str, exempt: str
) -> None:
    await pool.execute(broken)
    assert not (await check(pool, name)).ok
    await pool.execute(exempt)
    result = await check(pool, name)
    assert (result.ok, result.example) == (True, None)


@pytest.mark.parametrize("lane", Lane)
async def test_an_overdue_event_is_found_in_its_lane(pool: Pool, lane: Lane) -> None:
    due = f"available_at = {OLD}, lane = '{lane}'"
    await pool.execute(event(f"attempts = 0, {due}"))
    assert not (await check(pool, "backlog_age")).ok
    assert (await check(pool, "events_on_time")).ok
    await pool.execute(event(f"attempts = 1, {due}"))
    assert (await check(pool, "backlog_age")).ok
    assert not (await check(pool, "events_on_time")).ok


async def test_a_top_up_past_its_lifetime_is_named(pool: Pool) -> None:
    await pool.execute(LATE_TOP_UP)
    result = await check(pool, "attempts_on_time")
    assert result.example is not None
    assert "the attempt is charging" in result.example["problem"]
