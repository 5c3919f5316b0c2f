"""Batches of one organization that come together share statements; others do not wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import asyncpg
import pytest
import pytest_asyncio

from shared.errors import UnavailableError
from shared.ledger import request_batches
from shared.ledger.model import Posting, PostingResult
from shared.ledger.request_batches import RequestBatches
from shared.ledger.verification import verify
from tests.fixtures.ledger import balances, grant, post, usage
from tests.fixtures.product import WAIT_SECONDS_MAX, create_organization, until
from tests.integration.test_event_owners import waiting_for_locks
from tests.integration.test_ledger_isolation import locked

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

Task = asyncio.Task[list[PostingResult]]


@pytest_asyncio.fixture
async def batches(pool: Pool) -> AsyncIterator[RequestBatches]:
    found = RequestBatches(pool)
    yield found
    await found.close()


@pytest_asyncio.fixture
async def rich(pool: Pool, organization: Organization) -> Organization:
    await post(pool, grant(organization, 100))
    return organization


def debits(owner: Organization, batch: int, **fields: object) -> list[Posting]:
    return [usage(owner, 1, key=f"{batch}-{n}", **fields) for n in range(3)]


def submit(batches: RequestBatches, owner: Organization, postings: list[Posting]) -> Task:
    now = datetime.now(UTC)
    return asyncio.create_task(batches.post(owner.id, postings, now=now))


async def in_one_statement(
    pool: Pool, batches: RequestBatches, owner: Organization, waiting: list[list[Posting]]
) -> list[list[str] | BaseException]:
    """Return the statuses of batches that waited together, after those of two that came before."""
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        async with locked(pool, owner):
            tasks: list[Task] = []
            for n in (1, 2):
                tasks.append(submit(batches, owner, debits(owner, -n)))
                await waiting_for_locks(pool, n)
            tasks += [submit(batches, owner, postings) for postings in waiting]
            await asyncio.sleep(0)
        answers = await asyncio.gather(*tasks, return_exceptions=True)
    return [a if isinstance(a, BaseException) else [r.status for r in a] for a in answers]


async def test_batches_that_wait_together_share_a_commit(
    pool: Pool, batches: RequestBatches, rich: Organization
) -> None:
    waiting = [debits(rich, n) for n in range(4)]
    assert await in_one_statement(pool, batches, rich, waiting) == [["posted"] * 3] * 6
    commits = "SELECT count(DISTINCT xmin::text) FROM credit_transactions WHERE type = 'usage'"
    assert await pool.fetchval(commits) == 3
    assert await balances(pool, rich) == (82, 0)
    async with pool.acquire() as connection:
        assert (await verify(connection))["problems"] == []


async def test_batches_that_took_too_long_together_are_posted_alone(
    pool: Pool, batches: RequestBatches, rich: Organization
) -> None:
    async with asyncio.timeout(WAIT_SECONDS_MAX), locked(pool, rich):
        tasks: list[Task] = []
        for n in (1, 2):
            tasks.append(submit(batches, rich, debits(rich, -n)))
            await waiting_for_locks(pool, n)
        tasks += [submit(batches, rich, debits(rich, n)) for n in (1, 2)]
        await asyncio.sleep(0)
        await cancel_what_waits(pool)
        answers = await asyncio.gather(*tasks[:2], return_exceptions=True)
        assert [type(answer) for answer in answers] == [asyncpg.QueryCanceledError] * 2
        await waiting_for_locks(pool, 1)  # the others, in one statement
        await cancel_what_waits(pool)
        await waiting_for_locks(pool, 1)
    assert [[result.status for result in await task] for task in tasks[2:]] == [["posted"] * 3] * 2


async def cancel_what_waits(pool: Pool) -> None:
    """Cancel the statements that wait for a lock, and see them end."""
    waiting = await pool.fetch(
        "SELECT pid, query_start, pg_cancel_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )

    async def ended() -> bool:
        still = (
            "SELECT count(*) FROM pg_stat_activity AS a"
            " JOIN unnest($1::int[], $2::timestamptz[]) AS w (pid, query_start)"
            " ON w.pid = a.pid AND w.query_start = a.query_start"
            " WHERE a.wait_event_type = 'Lock'"
        )
        pids, starts = ([row[name] for row in waiting] for name in ("pid", "query_start"))
        return bool(await pool.fetchval(still, pids, starts) == 0)

    await until(ended)


async def test_a_key_in_two_batches_of_a_statement_is_posted_once(
    pool: Pool, batches: RequestBatches, rich: Organization
) -> None:
    waiting = [debits(rich, 1), debits(rich, 1), debits(rich, 1, description="another")]
    statuses = await in_one_statement(pool, batches, rich, waiting)
    assert statuses[2:] == [["posted"] * 3, ["replayed"] * 3, ["conflict"] * 3]


async def test_a_batch_that_repeats_keys_of_another_takes_only_itself_out_of_their_statement(
    pool: Pool, batches: RequestBatches, rich: Organization
) -> None:
    """Its postings are decided one by one, and theirs need not be."""
    waiting = [debits(rich, 1), debits(rich, 1), debits(rich, 2)]
    statuses = await in_one_statement(pool, batches, rich, waiting)
    assert statuses[2:] == [["posted"] * 3, ["replayed"] * 3, ["posted"] * 3]
    commits = (
        "SELECT count(DISTINCT xmin::text) FROM credit_transactions"
        " WHERE idempotency_key LIKE ANY ($1)"
    )
    assert await pool.fetchval(commits, ["1-%", "2-%"]) == 1
    assert await balances(pool, rich) == (88, 0)


async def test_a_key_that_an_earlier_batch_was_refused_is_decided_again(
    pool: Pool, batches: RequestBatches, rich: Organization
) -> None:
    large, small = usage(rich, 95, key="x"), usage(rich, 90, key="x")
    statuses = await in_one_statement(pool, batches, rich, [[large], [small]])
    assert statuses[2:] == [["insufficient"], ["posted"]]
    assert await balances(pool, rich) == (4, 0)


async def test_a_statement_counts_for_the_callers_of_its_batches(
    pool: Pool, rich: Organization
) -> None:
    caller: ContextVar[str] = ContextVar("caller")
    acting: list[list[str]] = []

    def acting_for(callers: Sequence[str]) -> AbstractContextManager[None]:
        acting.append(list(callers))
        return nullcontext()

    batches = RequestBatches(pool, caller=caller.get, acting_for=acting_for)

    async def request(name: str, batch: int) -> None:
        caller.set(name)
        await batches.post(rich.id, debits(rich, batch), now=datetime.now(UTC))

    async with asyncio.timeout(WAIT_SECONDS_MAX):
        async with asyncio.TaskGroup() as requests, locked(pool, rich):
            for n, name in enumerate(("first", "second"), start=1):
                requests.create_task(request(name, n))
                await waiting_for_locks(pool, n)
            for n, name in enumerate(("third", "first"), start=3):
                requests.create_task(request(name, n))
            await asyncio.sleep(0)
            assert acting == [["first"], ["second"]]
    assert acting == [["first"], ["second"], ["third", "first"]]


async def test_a_batch_that_fails_a_statement_fails_alone(
    pool: Pool, batches: RequestBatches, rich: Organization
) -> None:
    await pool.execute(
        "ALTER TABLE credit_transactions ADD CONSTRAINT test CHECK (description <> 'bad')"
    )
    waiting = [debits(rich, 1), debits(rich, 2, description="bad"), debits(rich, 3)]
    good, bad, other = (await in_one_statement(pool, batches, rich, waiting))[2:]
    assert good == other == ["posted"] * 3
    assert isinstance(bad, asyncpg.CheckViolationError)
    assert await balances(pool, rich) == (88, 0)


async def test_batches_of_others_are_answered_while_an_account_is_locked(
    pool: Pool, batches: RequestBatches, rich: Organization
) -> None:
    other = await create_organization(pool, "other")
    await post(pool, grant(other, 100))
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        async with locked(pool, rich):
            own = submit(batches, rich, debits(rich, 1))
            for n in range(5):
                await submit(batches, other, debits(other, n))
            assert not own.done()
        assert [result.status for result in await own] == ["posted"] * 3


async def test_too_many_waiting_batches_of_an_organization_are_refused(
    pool: Pool, batches: RequestBatches, rich: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_batches, "WAITING_BATCHES_MAX", 1)
    waiting = [debits(rich, n) for n in range(2)]
    *posted, refused = await in_one_statement(pool, batches, rich, waiting)
    assert posted == [["posted"] * 3] * 3
    assert isinstance(refused, UnavailableError)
