"""A replay is a batch: it has a rate and a limit, stops, resumes, and never runs twice at once."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from shared.errors import ConflictError, LeaseLostError, NotFoundError, ValidationError
from shared.events.service import Applier
from shared.inbox.admin.model import EventFilter
from shared.inbox.model import EventState
from shared.replay import rules
from shared.replay.model import ReplayOptions, ReplayReport
from shared.replay.service import Replayer
from tests.fixtures.product import (
    balance,
    create_organization,
    event_states,
    fail_postings,
    mend_postings,
    payment,
    receive,
    sessions_wait,
    transactions,
)
from worker.drainer import Drainer

if TYPE_CHECKING:
    from shared.db.pool import Pool

WHO = "cli:test"
DEAD = EventFilter()


@pytest.fixture
def replayer(pool: Pool, applier: Applier) -> Replayer:
    return Replayer(pool, applier, uuid4)


async def dead_letters(pool: Pool, drainer: Drainer, *names: str) -> list[str]:
    """Let payments die for want of an organization, then create it; return the events' ids."""
    await receive(pool, *(payment(name) for name in names))
    await drainer.drain()
    await create_organization(pool)
    return [f"evt_{name}" for name in names]


def counts(report: ReplayReport) -> tuple[int, int, int, int]:
    return report["selected"], report["applied"], report["noop"], report["failed"]


async def test_a_filter_selects_by_state_type_moment_and_error_class(
    pool: Pool, drainer: Drainer, replayer: Replayer
) -> None:
    await dead_letters(pool, drainer, *"1234")
    await pool.execute("UPDATE stripe_events SET type = 'charge.updated' WHERE id = 'evt_1'")
    await pool.execute("UPDATE stripe_events SET error_class = 'OtherError' WHERE id = 'evt_2'")
    await pool.execute(
        "UPDATE stripe_events SET received_at = now() - interval '2 days' WHERE id = 'evt_3'"
    )
    wanted = EventFilter(
        type="payment_intent.succeeded",
        error_class="UnknownOrganizationError",
        since=datetime.now(UTC) - timedelta(days=1),
    )
    report = await replayer.replay(wanted, actor=WHO, reason="fixed")
    assert counts(report) == (1, 1, 0, 0)
    states = await event_states(pool)
    assert [name for name, state in states.items() if state == "applied"] == ["evt_4"]
    row = await pool.fetchrow("SELECT * FROM replay_batches")
    assert row is not None
    assert (row["actor"], row["reason"], row["state"]) == (WHO, "fixed", "finished")
    assert row["filter"]["type"] == "payment_intent.succeeded"


async def test_a_replay_stops_after_so_many_failures_and_resumes(
    pool: Pool, drainer: Drainer, replayer: Replayer
) -> None:
    await dead_letters(pool, drainer, *map(str, range(10)))
    await fail_postings(pool)
    stopped = await replayer.replay(
        DEAD, actor=WHO, reason=None, options=ReplayOptions(stop_after=3)
    )
    assert (stopped["state"], counts(stopped)) == ("stopped", (3, 0, 0, 3))
    await mend_postings(pool)
    await pool.execute("DELETE FROM event_breakers")
    resumed = await replayer.resume(UUID(stopped["batchId"]), actor=WHO)
    assert (resumed["state"], counts(resumed)) == ("finished", (10, 7, 0, 3))
    assert await balance(pool) == 70
    with pytest.raises(ConflictError, match="finished"):
        await replayer.resume(UUID(stopped["batchId"]), actor=WHO)


async def test_a_rate_spreads_the_events_over_time(
    pool: Pool, drainer: Drainer, replayer: Replayer
) -> None:
    ids = await dead_letters(pool, drainer, *"12345")
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    slow = replace(replayer, sleep=sleep, clock=lambda: 0.0)
    report = await slow.replay(ids, actor=WHO, reason=None, options=ReplayOptions(rate=2))
    assert (report["applied"], pauses) == (5, [1.0, 1.0, 0.5])


class DyingError(BaseException):
    """The process ends: nothing handles this."""


@pytest.mark.parametrize("after", [0, 1, 3])
async def test_a_replay_that_dies_resumes_with_exact_counts(
    pool: Pool, drainer: Drainer, replayer: Replayer, after: int
) -> None:
    ids = await dead_letters(pool, drainer, *"12345")
    left = iter(range(after))

    async def sleep(_seconds: float) -> None:
        if next(left, None) is None:
            raise DyingError

    dying = replace(replayer, sleep=sleep, clock=lambda: 0.0)
    with suppress(DyingError):
        await dying.replay(DEAD, actor=WHO, reason=None, options=ReplayOptions(rate=1))
    batch_id = await pool.fetchval("SELECT id FROM replay_batches WHERE state = 'running'")
    resumed = await replayer.resume(batch_id, actor=WHO)
    assert counts(resumed) == (5, 5, 0, 0)
    assert [(d["before"], d["after"]) for d in resumed["diff"]] == [(Decimal(0), Decimal(50))]
    assert len(resumed["diff"][0]["transactions"]) == len(await transactions(pool)) == len(ids)


@pytest.mark.parametrize("calls", [1, 2, 3, 4])
async def test_a_replay_that_dies_within_a_chunk_counts_no_event_twice(
    pool: Pool, drainer: Drainer, replayer: Replayer, calls: int
) -> None:
    """One event fails, so that each of its chunk is applied alone; it dies between two of them."""
    await dead_letters(pool, drainer, "1", "2", "poison", "3")
    await fail_postings(pool, "pi_poison")
    left = iter(range(calls))

    def now() -> datetime:
        if next(left, None) is None:
            raise DyingError
        return datetime.now(UTC)

    dying = replace(replayer, applier=replace(replayer.applier, now=now))
    with pytest.raises(DyingError):
        await dying.replay(DEAD, actor=WHO, reason=None)
    batch_id = await pool.fetchval("SELECT id FROM replay_batches WHERE state = 'running'")
    resumed = await replayer.resume(batch_id, actor=WHO)
    assert counts(resumed) == (4, 3, 0, 1)
    assert [(d["before"], d["after"]) for d in resumed["diff"]] == [(Decimal(0), Decimal(30))]
    assert len(await transactions(pool)) == 3


async def test_a_second_replay_is_refused_while_one_runs_and_says_which(
    pool: Pool, drainer: Drainer, replayer: Replayer
) -> None:
    ids = await dead_letters(pool, drainer, "1", "2")
    running, go_on = asyncio.Event(), asyncio.Event()

    async def sleep(_seconds: float) -> None:
        running.set()
        await go_on.wait()

    slow = replace(replayer, sleep=sleep, clock=lambda: 0.0)
    first = asyncio.create_task(
        slow.replay(ids, actor="cli:first", reason=None, options=ReplayOptions(rate=1))
    )
    await running.wait()
    with pytest.raises(ConflictError, match=r"started by cli:first.*--resume"):
        await replayer.replay(ids, actor=WHO, reason=None)
    go_on.set()
    assert counts(await first) == (2, 2, 0, 0)
    assert counts(await replayer.replay(ids, actor=WHO, reason=None)) == (2, 0, 2, 0)


async def test_a_replay_that_another_process_resumed_changes_nothing_more(
    pool: Pool, drainer: Drainer, replayer: Replayer
) -> None:
    await dead_letters(pool, drainer, "1", "2", "3")
    running, go_on = asyncio.Event(), asyncio.Event()

    async def sleep(_seconds: float) -> None:
        running.set()
        await go_on.wait()

    frozen = replace(replayer, sleep=sleep, clock=lambda: 0.0)
    first = asyncio.create_task(
        frozen.replay(DEAD, actor=WHO, reason=None, options=ReplayOptions(rate=1))
    )
    await running.wait()
    batch_id = await pool.fetchval("SELECT id FROM replay_batches")
    quick = replace(replayer, sleep=_no_sleep)
    assert counts(await quick.resume(batch_id, actor=WHO)) == (3, 3, 0, 0)
    go_on.set()
    with pytest.raises(LeaseLostError, match="Another process"):
        await first
    assert counts(await replayer.report(batch_id)) == (3, 3, 0, 0)
    assert await balance(pool) == 30


async def _no_sleep(_seconds: float) -> None:
    """Go on at once."""


async def test_a_replay_whose_process_is_gone_blocks_no_other(
    pool: Pool, drainer: Drainer, replayer: Replayer
) -> None:
    ids = await dead_letters(pool, drainer, "1")
    await pool.execute(
        "INSERT INTO replay_batches (id, kind, ids, actor, options, holder, saved_at)"
        " VALUES ($1, 'events', '{evt_1}', 'cli:gone', '{}', $1, now() - $2::interval)",
        UUID(int=7),
        rules.HOLDER_LEASE + timedelta(seconds=1),
    )
    assert counts(await replayer.replay(ids, actor=WHO, reason=None)) == (1, 1, 0, 0)
    state = await pool.fetchval("SELECT state FROM replay_batches WHERE id = $1", UUID(int=7))
    assert state == "stopped"


BATCH = (
    "INSERT INTO replay_batches (id, kind, ids, actor, options, holder, state, saved_at)"
    " VALUES ($1, 'events', '{evt_1}', 'cli:first', '{}', $1, $2, now() - $3::interval)"
)
FIRST, SECOND = UUID(int=1), UUID(int=2)


async def test_a_replay_is_resumed_although_another_has_lost_its_process(
    pool: Pool, drainer: Drainer, replayer: Replayer
) -> None:
    await dead_letters(pool, drainer, "1")
    await pool.execute(BATCH, FIRST, "stopped", timedelta(0))
    await pool.execute(BATCH, SECOND, "running", rules.HOLDER_LEASE + timedelta(seconds=1))
    assert counts(await replayer.resume(FIRST, actor=WHO)) == (1, 1, 0, 0)
    rows = await pool.fetch("SELECT state FROM replay_batches ORDER BY id")
    assert [row["state"] for row in rows] == ["finished", "stopped"]


async def test_a_replay_is_not_resumed_beside_one_that_has_just_been_started(
    pool: Pool, replayer: Replayer
) -> None:
    await pool.execute(BATCH, FIRST, "stopped", timedelta(0))
    async with pool.acquire() as other, other.transaction():
        await other.execute(BATCH, SECOND, "running", timedelta(0))
        resumed = asyncio.create_task(replayer.resume(FIRST, actor=WHO))
        await sessions_wait(pool)
    with pytest.raises(ConflictError, match=rf"{SECOND} runs since .* started by cli:first"):
        await resumed
    state = await pool.fetchval("SELECT state FROM replay_batches WHERE id = $1", FIRST)
    assert state == "stopped"


async def test_a_replay_takes_a_chunk_at_a_time_and_nothing_that_arrives_meanwhile(
    pool: Pool, drainer: Drainer, replayer: Replayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "BATCH_ROWS_MAX", 2)
    await dead_letters(pool, drainer, *"12345")
    await fail_postings(pool)  # each is dead or retrying again, and is not selected once more
    report = await replayer.replay(DEAD, actor=WHO, reason=None)
    await mend_postings(pool)
    assert (report["selected"], report["failed"]) == (5, 5)


async def test_a_replay_of_everything_twice_changes_nothing(
    pool: Pool, drainer: Drainer, replayer: Replayer
) -> None:
    await dead_letters(pool, drainer, *"123")
    ids = list(await event_states(pool))
    await replayer.replay(ids, actor=WHO, reason=None)
    before = await transactions(pool), await balance(pool)
    for _ in range(2):
        everything = EventFilter(state=EventState.APPLIED)
        report = await replayer.replay(everything, actor=WHO, reason=None)
        assert counts(report) == (3, 0, 3, 0)
        assert (report["organizations"], report["diff"]) == (0, [])
    assert (await transactions(pool), await balance(pool)) == before


async def test_the_report_lists_the_first_failures_and_organizations_and_counts_all(
    pool: Pool, drainer: Drainer, replayer: Replayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("ORGANIZATIONS_MAX", 2), ("TRANSACTIONS_MAX", 1), ("FAILURES_MAX", 2)):
        monkeypatch.setattr(rules, name, value)
    for slug in "abc":
        await create_organization(pool, slug)
    names = [f"{slug}{n}" for slug in "abc" for n in range(2)]
    await receive(pool, *(payment(name, organization=name[0]) for name in names))
    await receive(pool, *(payment(f"no{n}", organization="nobody") for n in range(4)))
    report = await replayer.replay(list(await event_states(pool)), actor=WHO, reason=None)
    assert counts(report) == (10, 6, 0, 4)
    assert (report["organizations"], len(report["diff"])) == (3, 2)
    assert [len(diff["transactions"]) for diff in report["diff"]] == [1, 1]
    assert {(diff["before"], diff["after"]) for diff in report["diff"]} == {
        (Decimal(0), Decimal(20))
    }
    assert len(report["failures"]) == 2


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"reason": "x" * 501}, "500"),
        ({"reason": "  "}, "why"),
        ({"reason": "\0"}, "why"),
        ({"ids": [f"evt_{n}" for n in range(10_001)]}, "10000"),
    ],
)
async def test_a_wrong_reason_or_too_many_ids_are_refused(
    replayer: Replayer, wrong: dict[str, Any], word: str
) -> None:
    given: dict[str, Any] = {"ids": ["evt_1"], "reason": None} | wrong
    with pytest.raises(ValidationError, match=word):
        await replayer.replay(given["ids"], actor=WHO, reason=given["reason"])


async def test_an_unknown_batch_is_not_resumed(replayer: Replayer) -> None:
    with pytest.raises(NotFoundError):
        await replayer.resume(uuid4(), actor=WHO)


async def test_a_replay_of_nothing_is_finished(replayer: Replayer) -> None:
    assert counts(await replayer.replay([], actor=WHO, reason=None)) == (0, 0, 0, 0)
