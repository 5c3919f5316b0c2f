"""Replaying dead letters: what was wrong is mended by a person, then applied once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

from shared.events.service import Applier
from shared.inbox import store
from shared.inbox.admin import store as admin
from shared.payments.model import SaleTerms
from shared.replay import dead_letters as letters
from shared.replay.service import Replayer
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
from tests.integration.events import session
from worker.drainer import Drainer

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

WHO = "cli:test"
ZERO_TO_20 = (Decimal(0), Decimal(20))


async def dead_letters(pool: Pool, drainer: Drainer, *names: str) -> list[str]:
    """Let payments die for want of an organization; return the events' ids."""
    await receive(pool, *(payment(name) for name in names))
    await drainer.drain()
    assert set((await event_states(pool)).values()) == {"dead"}
    return [f"evt_{name}" for name in names]


async def test_a_dead_letter_is_applied_once_its_organization_exists(
    pool: Pool, drainer: Drainer, replayer: Replayer
) -> None:
    ids = await dead_letters(pool, drainer, "1", "2")
    acme = await create_organization(pool)
    report = await replayer.replay(ids, actor=WHO, reason="acme was missing")
    counts = {word: report[word] for word in ("selected", "applied", "noop", "failed")}
    assert counts == {"selected": 2, "applied": 2, "noop": 0, "failed": 0}
    (diff,) = report["diff"]
    assert (diff["organizationId"], diff["before"], diff["after"]) == (str(acme.id), *ZERO_TO_20)
    rows = await transactions(pool)
    assert diff["transactions"] == [f"ct_{row['id'].hex}" for row in rows]
    assert set((await event_states(pool)).values()) == {"applied"}


async def test_the_difference_begins_at_the_balance_before_the_replay(
    pool: Pool, drainer: Drainer, replayer: Replayer
) -> None:
    ids = await dead_letters(pool, drainer, "1")
    await create_organization(pool)
    await receive(pool, payment("earlier", amount=500))
    await drainer.drain()
    report = await replayer.replay(ids, actor=WHO, reason=None)
    assert [(diff["before"], diff["after"]) for diff in report["diff"]] == [
        (Decimal(5), Decimal(15))
    ]


async def test_a_second_replay_is_a_noop(pool: Pool, drainer: Drainer, replayer: Replayer) -> None:
    ids = await dead_letters(pool, drainer, "1")
    await create_organization(pool)
    await replayer.replay(ids, actor=WHO, reason=None)
    again = await replayer.replay(ids, actor=WHO, reason=None)
    assert (again["selected"], again["applied"], again["noop"], again["failed"]) == (1, 0, 1, 0)
    assert again["diff"] == []
    assert await balance(pool) == 10
    assert await event_states(pool) == {"evt_1": "applied"}


async def test_two_replays_at_once_credit_once(
    pool: Pool, drainer: Drainer, applier: Applier
) -> None:
    ids = await dead_letters(pool, drainer, *map(str, range(10)))
    await create_organization(pool)
    replayers = [Replayer(pool, applier, lambda n=n: UUID(int=n)) for n in (1, 2)]  # type: ignore[misc]
    await asyncio.gather(
        *(replayer.replay(ids, actor=WHO, reason=None) for replayer in replayers),
        return_exceptions=True,
    )
    await drainer.drain()
    await pool.execute("UPDATE stripe_events SET available_at = now()")
    await drainer.drain()
    assert await balance(pool) == 100
    assert set((await event_states(pool)).values()) == {"applied"}


async def test_a_replay_that_cannot_help_leaves_the_letter_dead_and_says_why(
    pool: Pool, drainer: Drainer, replayer: Replayer
) -> None:
    ids = await dead_letters(pool, drainer, "1")
    report = await replayer.replay(ids, actor=WHO, reason=None)
    assert (report["applied"], report["failed"]) == (0, 1)
    (failure,) = report["failures"]
    assert (failure["id"], failure["state"]) == ("evt_1", "dead")
    assert "acme" in (failure["error"] or "")
    assert await event_states(pool) == {"evt_1": "dead"}


async def test_one_event_that_fails_again_leaves_the_others_of_the_replay_applied(
    pool: Pool, drainer: Drainer, replayer: Replayer
) -> None:
    ids = await dead_letters(pool, drainer, "1", "poison", "2")
    await create_organization(pool)
    await fail_postings(pool, "pi_poison")
    report = await replayer.replay(ids, actor=WHO, reason=None)
    assert (report["selected"], report["applied"], report["failed"]) == (3, 2, 1)
    assert await balance(pool) == 20


async def test_a_replay_fenced_off_by_nobody_leaves_no_lease_behind(
    pool: Pool, drainer: Drainer, replayer: Replayer
) -> None:
    ids = await dead_letters(pool, drainer, "1")
    await create_organization(pool)
    await replayer.replay(ids, actor=WHO, reason=None)
    assert (await event_row(pool, "evt_1"))["lease_token"] is None


async def test_a_replay_takes_an_event_from_the_worker_that_hangs_on_it(
    pool: Pool, organization: Organization, applier: Applier, replayer: Replayer
) -> None:
    await receive(pool, payment("1"))
    async with pool.acquire() as connection:
        await store.claim(connection, rows_max=1, token=UUID(int=1), lease=LEASE)
    report = await replayer.replay(["evt_1"], actor=WHO, reason="the worker hangs")
    assert report["applied"] == 1
    assert await balance(pool) == 10


async def test_a_replay_that_crashed_is_finished_by_the_worker(
    pool: Pool, drainer: Drainer
) -> None:
    ids = await dead_letters(pool, drainer, "1")
    await create_organization(pool)
    async with pool.acquire() as connection:
        await store.claim_for_replay(
            connection, ids, token=UUID(int=9), lease=timedelta(0), livemode=False, accounts=()
        )
    await drainer.drain()
    assert await event_states(pool) == {"evt_1": "applied"}
    assert await balance(pool) == 10


async def test_a_discarded_event_can_be_replayed(
    pool: Pool, organization: Organization, replayer: Replayer
) -> None:
    await receive(pool, payment("1"))
    async with pool.acquire() as connection:
        await admin.discard(connection, ["evt_1"], "by mistake")
    assert (await replayer.replay(["evt_1"], actor=WHO, reason=None))["applied"] == 1
    assert await balance(pool) == 10


async def test_named_events_are_discarded_with_an_audit_entry_each_in_one_statement(
    pool: Pool, drainer: Drainer
) -> None:
    ids = await dead_letters(pool, drainer, "1", "2", "3")
    found = await letters.discard(pool, ids, actor=WHO, reason="a test")
    assert (found.count, found.ids) == (3, ids)
    rows = await pool.fetch("SELECT *, cmin::text AS statement FROM audit_log ORDER BY subject")
    assert [row["subject"] for row in rows] == ids
    assert {(row["actor"], row["action"], row["reason"]) for row in rows} == {
        (WHO, "events.discard", "a test")
    }
    assert len({row["statement"] for row in rows}) == 1


async def test_the_audit_log_says_who_replayed_what_and_why(
    pool: Pool, drainer: Drainer, replayer: Replayer
) -> None:
    ids = await dead_letters(pool, drainer, "1", "2")
    report = await replayer.replay(ids, actor=WHO, reason="because")
    row = await pool.fetchrow("SELECT * FROM audit_log")
    assert row is not None
    assert (row["actor"], row["action"], row["subject"], row["reason"]) == (
        WHO,
        "events.replay",
        report["batchId"],
        "because",
    )
    assert sorted(row["details"]["events"]) == ids


async def test_more_dead_letters_than_a_batch_holds_are_replayed_at_once(
    pool: Pool, drainer: Drainer, replayer: Replayer
) -> None:
    ids = await dead_letters(pool, drainer, *map(str, range(250)))
    await create_organization(pool)
    report = await replayer.replay(ids, actor=WHO, reason=None)
    assert (report["selected"], report["applied"]) == (250, 250)
    assert len(report["diff"][0]["transactions"]) == 250
    assert report["diff"][0]["after"] == 2500


async def test_two_dead_letters_of_one_payment_are_one_applied_and_one_noop(
    pool: Pool, drainer: Drainer, replayer: Replayer
) -> None:
    await receive(pool, session("1"), session("1", "async_payment_succeeded"))
    await drainer.drain()
    await create_organization(pool)
    report = await replayer.replay(list(await event_states(pool)), actor=WHO, reason=None)
    assert await balance(pool) == 10
    assert [len(diff["transactions"]) for diff in report["diff"]] == [1]
    assert (report["applied"], report["noop"]) == (1, 1)


async def test_every_event_that_was_named_is_counted_even_if_its_type_pauses_on_the_way(
    pool: Pool, drainer: Drainer, replayer: Replayer
) -> None:
    ids = await dead_letters(pool, drainer, *map(str, range(15)))
    await create_organization(pool)
    await fail_postings(pool)
    report = await replayer.replay(ids, actor=WHO, reason=None)
    assert report["selected"] == 15
    await mend_postings(pool)


async def test_a_replay_pays_in_the_installations_own_credits(pool: Pool, drainer: Drainer) -> None:
    ids = await dead_letters(pool, drainer, "1")
    await create_organization(pool)
    replayer = Replayer(pool, Applier(pool, SaleTerms(Decimal(100))), lambda: UUID(int=1))
    report = await replayer.replay(ids, actor=WHO, reason=None)
    assert report["diff"][0]["after"] == 1000
