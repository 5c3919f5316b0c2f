"""A process that lost its batch commits nothing more, whenever another takes it over."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from shared.errors import LeaseLostError
from shared.inbox.admin.model import EventFilter
from shared.outbound.model import MessageFilter
from shared.replay import rules, store
from shared.replay.messages import MessageReplayer
from shared.replay.model import DEFAULT_OPTIONS, Kind
from shared.replay.service import Replayer
from tests.fixtures.outbound_messages import add, announce, states
from tests.fixtures.product import balance, payment, receive, sessions_wait, transactions

if TYPE_CHECKING:
    from shared.db.pool import AcquiredConnection, Pool
    from shared.events.service import Applier
    from shared.organizations.model import Organization

WHO = "cli:test"
TABLES = ("stripe_events", "outbound_messages", "credit_transactions", "audit_log",
          "replay_batches", "replay_batch_organizations")  # fmt: skip


@dataclass
class Interrupted:
    """The pool of a process to which something happens before each connection that it acquires."""

    pool: Pool
    before: Callable[[int], Awaitable[None]]
    acquired: int = 0

    def acquire(self) -> AcquiredConnection:
        return self._acquire()

    @asynccontextmanager
    async def _acquire(self) -> AsyncIterator[Any]:
        self.acquired += 1
        await self.before(self.acquired)
        async with self.pool.acquire() as connection:
            yield connection


@dataclass
class TakeOver:
    """Gives the running batch to another process at one moment of the first; notes every row."""

    pool: Pool
    kind: Kind
    moment: int
    batch_id: UUID | None = None
    rows: Any = None

    async def __call__(self, moment: int) -> None:
        if moment != self.moment:
            return
        async with self.pool.acquire() as connection:
            running = await store.running(connection, self.kind)
            if running is not None:
                self.batch_id = running["id"]
                await store.resume(connection, self.kind, running["id"], uuid4())
        self.rows = await every_row(self.pool)


async def every_row(pool: Pool) -> dict[str, list[str]]:
    return {name: sorted(map(repr, await pool.fetch(f"TABLE {name}"))) for name in TABLES}


async def test_a_replay_of_events_that_is_taken_over_at_any_moment_commits_nothing_more(
    pool: Pool, organization: Organization, applier: Applier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "BATCH_ROWS_MAX", 2)
    for moment in itertools.count(2):
        await receive(pool, *(payment(f"{moment}_{n}") for n in range(3)))
        await pool.execute(
            "UPDATE stripe_events SET state = 'dead', reason = 'x', settled_at = now()"
            " WHERE state = 'received'"
        )
        taken = TakeOver(pool, Kind.EVENTS, moment)
        slow = Interrupted(pool, taken)
        first = Replayer(slow, replace(applier, pool=slow), uuid4)
        with suppress(LeaseLostError):
            await first.replay(EventFilter(), actor=WHO, reason=None)
        if taken.batch_id is None:
            break
        assert await every_row(pool) == taken.rows
        resumed = await Replayer(pool, applier, uuid4).resume(taken.batch_id, actor=WHO)
        assert (resumed["selected"], resumed["applied"], resumed["failed"]) == (3, 3, 0)
    assert moment > 8
    assert await balance(pool) == 30 * (moment - 1) == 10 * len(await transactions(pool))


async def test_a_replay_of_messages_that_is_taken_over_at_any_moment_commits_nothing_more(
    pool: Pool, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "BATCH_ROWS_MAX", 2)
    await add(pool, "https://app.example.com/hooks")
    for moment in itertools.count(2):
        made = await announce(pool, organization, 3)
        await pool.execute(
            "UPDATE outbound_messages SET state = 'dead', reason = 'x', settled_at = now()"
            " WHERE id = any($1::uuid [])",
            [message.id for message in made],
        )
        taken = TakeOver(pool, Kind.MESSAGES, moment)
        first = MessageReplayer(Interrupted(pool, taken))
        with suppress(LeaseLostError):
            await first.replay(MessageFilter(), actor=WHO, reason=None)
        if taken.batch_id is None:
            break
        assert await every_row(pool) == taken.rows
        resumed = await MessageReplayer(pool).resume(taken.batch_id, actor=WHO)
        assert (resumed["selected"], resumed["applied"], resumed["failed"]) == (3, 3, 0)
    assert moment > 6
    assert await states(pool) == {"pending": 3 * (moment - 1)}


async def test_a_replay_that_is_taken_over_while_it_applies_an_event_rolls_back(
    pool: Pool, organization: Organization, replayer: Replayer
) -> None:
    await receive(pool, payment("1"))
    async with pool.acquire() as other, other.transaction():
        await other.execute("SELECT FROM accounts FOR UPDATE")
        first = asyncio.create_task(replayer.replay(["evt_1"], actor=WHO, reason=None))
        await sessions_wait(pool)
        taken = TakeOver(pool, Kind.EVENTS, 0)
        await taken(0)
    with pytest.raises(LeaseLostError, match="Another process"):
        await first
    assert await every_row(pool) == taken.rows
    assert taken.batch_id is not None
    resumed = await replayer.resume(taken.batch_id, actor=WHO)
    assert (resumed["selected"], resumed["applied"], await balance(pool)) == (1, 1, Decimal(10))


async def test_a_replay_of_messages_is_taken_over_between_two_chunks(
    pool: Pool, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that makes messages due holds the batch, so that the other waits for its commit."""
    monkeypatch.setattr(rules, "BATCH_ROWS_MAX", 1)
    await add(pool, "https://app.example.com/hooks")
    await announce(pool, organization, 2)
    await pool.execute(
        "UPDATE outbound_messages SET state = 'dead', reason = 'x', settled_at = now()"
    )
    replayer = MessageReplayer(pool)
    async with pool.acquire() as other, other.transaction():
        await other.execute("SELECT FROM outbound_messages FOR UPDATE")
        first = asyncio.create_task(replayer.replay(MessageFilter(), actor=WHO, reason=None))
        await sessions_wait(pool)
        batch_id = await pool.fetchval("SELECT id FROM replay_batches")
        second = asyncio.create_task(replayer.resume(batch_id, actor=WHO))
        await sessions_wait(pool, 2)
    with pytest.raises(LeaseLostError, match="Another process"):
        await first
    resumed = await second
    assert (resumed["selected"], resumed["applied"], resumed["failed"]) == (2, 2, 0)


async def test_a_chunk_is_selected_and_counted_by_the_process_that_holds_the_batch_alone(
    pool: Pool,
) -> None:
    batch_id, holder = uuid4(), uuid4()
    async with pool.acquire() as connection:
        await store.start(
            connection, Kind.EVENTS, batch_id, holder, ["evt_1"], actor=WHO, reason=None,
            options=DEFAULT_OPTIONS,
        )  # fmt: skip
        place: dict[str, Any] = {"after": None, "next_place": 1}
        before = await every_row(pool)
        assert not await store.select_chunk(connection, batch_id, uuid4(), ["evt_1"], **place)
        assert not await store.count_results(connection, batch_id, uuid4(), {}, [])
        assert await every_row(pool) == before
        assert await store.select_chunk(connection, batch_id, holder, ["evt_1"], **place)
