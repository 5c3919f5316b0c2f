"""One organization whose account is locked, or whose debits are long work, keeps nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from api.framework import shares
from shared.errors import UnavailableError
from shared.ledger import batches, service
from shared.ledger.batches import Ledger
from shared.ledger.model import Deferral, PostingResult, PostingStatus
from shared.ledger.verification import verify
from tests.fixtures.ledger import balances, grant, left, post, usage
from tests.fixtures.product import (
    POOL_SIZE,
    WAIT_SECONDS_MAX,
    connections,
    create_organization,
    until,
)
from tests.integration.test_event_owners import waiting_for_locks

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool
    from shared.organizations.model import Organization


@pytest_asyncio.fixture
async def ledger(pool: Pool) -> AsyncIterator[Ledger]:
    found = Ledger(pool)
    yield found
    await found.close()


@pytest_asyncio.fixture
async def owners(pool: Pool) -> list[Organization]:
    made = [await create_organization(pool, f"org-{n}") for n in range(6)]
    await post(pool, *(grant(owner, 100) for owner in made))
    return made


@asynccontextmanager
async def locked(pool: Pool, *owners: Organization) -> AsyncIterator[Connection]:
    """Keep accounts locked in a transaction of somebody else's."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "SELECT FROM accounts WHERE organization_id = any($1::uuid[]) FOR UPDATE",
            [owner.id for owner in owners],
        )
        yield connection


@pytest.mark.parametrize("key", ["a", "idempotency-key:a"])
async def test_debits_of_others_are_answered_while_an_account_is_locked(
    pool: Pool,
    ledger: Ledger,
    owners: list[Organization],
    monkeypatch: pytest.MonkeyPatch,
    key: str,
) -> None:
    """R6. Those of its own organization wait, and are posted once it is free."""
    monkeypatch.setattr(batches, "LANE_LOCK_MILLISECONDS_MAX", 1000 * WAIT_SECONDS_MAX)
    first, *others = owners
    async with asyncio.timeout(WAIT_SECONDS_MAX), locked(pool, first):
        own = [asyncio.create_task(ledger.post(usage(first, 1, key=f"{key}-{n}"))) for n in "12"]
        for n in range(20):
            answers = await asyncio.gather(
                *(ledger.post(usage(owner, 1, key=f"{key}-{n}")) for owner in others)
            )
            assert {answer.status for answer in answers} == {PostingStatus.POSTED}
        assert not any(task.done() for task in own)
    assert [(await task).status for task in own] == [PostingStatus.POSTED] * 2
    assert await balances(pool, first) == (98, 0)


async def test_an_account_that_stays_locked_is_refused_alone_and_says_when_to_come_back(
    pool: Pool, ledger: Ledger, owners: list[Organization], monkeypatch: pytest.MonkeyPatch
) -> None:
    """R6. The wait is bounded in time."""
    monkeypatch.setattr(batches, "LANE_LOCK_MILLISECONDS_MAX", 20)
    first, other, *_ = owners
    async with locked(pool, first):
        own, others = await asyncio.gather(
            ledger.post(usage(first, 1)), ledger.post(usage(other, 1)), return_exceptions=True
        )
    assert isinstance(own, UnavailableError)
    assert own.retry_after_seconds == batches.RETRY_AFTER_SECONDS
    assert not isinstance(others, BaseException)
    assert await balances(pool, first) == (100, 0)
    assert (await ledger.post(usage(first, 1))).status is PostingStatus.POSTED


async def test_more_postings_than_a_lane_takes_are_refused_at_once(
    pool: Pool, ledger: Ledger, owners: list[Organization], monkeypatch: pytest.MonkeyPatch
) -> None:
    """R6. The wait is bounded in rows."""
    monkeypatch.setattr(batches, "LANE_ROWS_MAX", 3)
    monkeypatch.setattr(batches, "LANE_LOCK_MILLISECONDS_MAX", 1000 * WAIT_SECONDS_MAX)
    first, other, *_ = owners
    async with locked(pool, first):
        own = [asyncio.create_task(ledger.post(usage(first, 1))) for _ in range(6)]
        done, _ = await asyncio.wait(own, return_when=asyncio.FIRST_COMPLETED)
        assert {type(task.exception()) for task in done} == {UnavailableError}
        assert (await ledger.post(usage(other, 1))).status is PostingStatus.POSTED
    outcomes = await asyncio.gather(*own, return_exceptions=True)
    assert 3 <= sum(isinstance(outcome, PostingResult) for outcome in outcomes) <= 4


async def test_a_lane_takes_all_debits_that_a_process_lets_in_of_an_organization(
    pool: Pool, ledger: Ledger, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes that post to one busy organization meet in lanes, and refuse nothing."""
    monkeypatch.setattr(batches, "LANE_LOCK_MILLISECONDS_MAX", 1000 * WAIT_SECONDS_MAX)
    let_in = shares.REQUESTS_OF_ORGANIZATION_MAX
    await post(pool, grant(organization, let_in))
    async with locked(pool, organization):
        own = [asyncio.create_task(ledger.post(usage(organization, 1))) for _ in range(let_in)]
        await waiting_for_locks(pool, 1)

        async def all_wait_in_the_lane() -> bool:
            return ledger._shared.is_idle and ledger._contended.is_idle  # noqa: SLF001

        await until(all_wait_in_the_lane)
    assert {(await task).status for task in own} == {PostingStatus.POSTED}
    assert await balances(pool, organization) == (0, 0)


async def test_lanes_of_many_organizations_take_few_connections(
    pool: Pool, ledger: Ledger, owners: list[Organization], monkeypatch: pytest.MonkeyPatch
) -> None:
    """R6. The wait is bounded in connections: over all lanes."""
    monkeypatch.setattr(batches, "LANE_LOCK_MILLISECONDS_MAX", 1000 * WAIT_SECONDS_MAX)
    *many, other = owners
    async with locked(pool, *many):
        own = [asyncio.create_task(ledger.post(usage(owner, 1))) for owner in many]
        await waiting_for_locks(pool, batches.LANES_AT_ONCE_MAX)
        async with connections(pool, POOL_SIZE - 1 - batches.LANES_AT_ONCE_MAX - 1):
            assert (await ledger.post(usage(other, 1))).status is PostingStatus.POSTED
    assert {(await task).status for task in own} == {PostingStatus.POSTED}


async def test_a_debit_across_many_grants_goes_in_a_lane_and_the_others_do_not_wait(
    pool: Pool, ledger: Ledger, owners: list[Organization], monkeypatch: pytest.MonkeyPatch
) -> None:
    """R8. Its grants are locked, so that it is still under way when the others are answered."""
    monkeypatch.setattr(batches, "LANE_LOCK_MILLISECONDS_MAX", 1000 * WAIT_SECONDS_MAX)
    first, *others = owners
    many = 2 * batches.SHARED_GRANTS_MAX
    await post(pool, *(grant(first, 1, priority=1) for _ in range(many)))
    async with pool.acquire() as holder, holder.transaction():
        await holder.execute(
            "SELECT FROM credit_grants WHERE organization_id = $1 FOR UPDATE", first.id
        )
        own = asyncio.create_task(ledger.post(usage(first, many)))
        small = asyncio.create_task(ledger.post(usage(first, 1)))
        for _ in range(5):
            answers = await asyncio.gather(*(ledger.post(usage(owner, 1)) for owner in others))
            assert {answer.status for answer in answers} == {PostingStatus.POSTED}
        assert not own.done()
    assert [(await own).status, (await small).status] == [PostingStatus.POSTED] * 2
    assert await left(pool, first) == [99, *([0] * many)]


async def test_a_shared_batch_posts_no_debit_across_more_grants_than_it_may_read(
    pool: Pool, owners: list[Organization]
) -> None:
    first, second, *_ = owners
    most = batches.SHARED_GRANTS_MAX
    await post(pool, *(grant(first, 1, priority=1) for _ in range(2 * most)))
    async with pool.acquire() as connection:
        results = await service.post_shared(
            connection,
            [usage(first, 2 * most), usage(second, 1)],
            lock_milliseconds_max=0,
            grants_max=most,
        )
    assert results[0] is Deferral.HEAVY
    assert isinstance(results[1], PostingResult)
    assert await left(pool, first) == [100, *([1] * 2 * most)]


async def test_debits_of_others_are_answered_while_rows_beside_an_account_are_locked(
    pool: Pool, ledger: Ledger, owners: list[Organization], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "LANE_LOCK_MILLISECONDS_MAX", 1000 * WAIT_SECONDS_MAX)
    first, *others = owners
    async with pool.acquire() as holder, holder.transaction():
        await holder.execute(
            "SELECT FROM credit_grants WHERE organization_id = $1 FOR UPDATE", first.id
        )
        own = asyncio.create_task(ledger.post(usage(first, 1)))
        for _ in range(5):
            answers = await asyncio.gather(*(ledger.post(usage(owner, 1)) for owner in others))
            assert {answer.status for answer in answers} == {PostingStatus.POSTED}
        assert not own.done()
    assert (await own).status is PostingStatus.POSTED


async def test_an_organization_whose_rows_break_a_batch_breaks_its_own_postings_alone(
    pool: Pool, ledger: Ledger, owners: list[Organization]
) -> None:
    first, *others = owners
    await pool.execute(
        "UPDATE accounts SET last_seq = 9223372036854775807 WHERE organization_id = $1", first.id
    )
    outcomes = await asyncio.gather(
        *(ledger.post(usage(owner, 1)) for owner in owners), return_exceptions=True
    )
    assert [type(outcome).__name__ for outcome in outcomes] == [
        "NumericValueOutOfRangeError",
        *(["PostedTransaction"] * len(others)),
    ]


async def test_two_processes_post_to_the_same_organizations_and_refuse_nothing(
    pool: Pool, owners: list[Organization]
) -> None:
    ledgers = [Ledger(pool) for _ in range(2)]
    for _ in range(5):
        results = await asyncio.gather(
            *(ledger.post(usage(owner, 1)) for ledger in ledgers for owner in owners * 2)
        )
        assert {result.status for result in results} == {PostingStatus.POSTED}
    for ledger in ledgers:
        await ledger.close()
    async with pool.acquire() as connection:
        assert (await verify(connection))["problems"] == []
    assert [await balances(pool, owner) for owner in owners] == [(80, 0)] * len(owners)
