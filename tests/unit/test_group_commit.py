"""Group commit: what arrives while a flush is in flight is the next batch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import Context, ContextVar

import pytest

from shared.db.group_commit import GroupCommit
from shared.errors import UnavailableError

SECONDS_MAX = 30


class Database:
    """A flush that waits until the test lets it go, and answers each item with its double."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.started = asyncio.Semaphore(0)
        self.gate = asyncio.Semaphore(0)
        self.failing: set[int] = set()
        self.down = False

    async def flush(self, items: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(items))
        self.started.release()
        await self.gate.acquire()
        if self.down:
            raise ConnectionError("away")
        return [ValueError(item) if item in self.failing else item * 2 for item in items]

    def let_go(self, flushes: int = 1000) -> None:
        for _ in range(flushes):
            self.gate.release()


def submit(commits: GroupCommit[int, int], *items: int) -> list[asyncio.Task[int]]:
    return [asyncio.create_task(commits.submit(item)) for item in items]


async def test_an_idle_caller_is_flushed_at_once() -> None:
    database = Database()
    commits = GroupCommit[int, int](database.flush)
    (waiting,) = submit(commits, 1)
    async with asyncio.timeout(SECONDS_MAX):
        await database.started.acquire()
        database.let_go()
        assert await waiting == 2
    assert database.batches == [[1]]


async def test_what_arrives_in_flight_is_the_next_batch() -> None:
    database = Database()
    commits = GroupCommit[int, int](database.flush)
    waiting = submit(commits, 0)
    await database.started.acquire()
    waiting += submit(commits, *range(1, 6))
    await asyncio.sleep(0)
    database.let_go()
    assert await asyncio.gather(*waiting) == [0, 2, 4, 6, 8, 10]
    assert database.batches == [[0], [1, 2, 3, 4, 5]]


async def test_no_batch_is_larger_than_its_limit_and_the_order_is_kept() -> None:
    database = Database()
    commits = GroupCommit[int, int](database.flush, batch_rows_max=3)
    database.let_go()
    assert await asyncio.gather(*submit(commits, *range(10))) == [n * 2 for n in range(10)]
    assert max(map(len, database.batches)) == 3
    assert [item for batch in database.batches for item in batch] == list(range(10))


async def test_no_more_flushes_are_in_flight_than_allowed() -> None:
    database = Database()
    commits = GroupCommit[int, int](database.flush, flushes_at_once_max=2, batch_rows_max=1)
    waiting = submit(commits, *range(6))
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(database.batches) == 2
    database.let_go()
    await asyncio.gather(*waiting)
    assert len(database.batches) == 6


async def test_one_failing_item_reaches_its_own_caller_alone() -> None:
    database = Database()
    database.failing = {2}
    database.let_go()
    commits = GroupCommit[int, int](database.flush)
    outcomes = await asyncio.gather(*submit(commits, 1, 2, 3), return_exceptions=True)
    assert (outcomes[0], outcomes[2]) == (2, 6)
    assert isinstance(outcomes[1], ValueError)


async def test_a_flush_that_fails_reaches_every_caller_of_its_batch_and_no_other() -> None:
    database = Database()
    commits = GroupCommit[int, int](database.flush)
    database.down = True
    database.let_go()
    outcomes = await asyncio.gather(*submit(commits, 1, 2), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ConnectionError, ConnectionError]
    database.down = False
    assert await asyncio.gather(*submit(commits, 3)) == [6]


async def test_a_flush_that_forgets_an_item_fails_its_batch_instead_of_hanging() -> None:
    async def forget(items: Sequence[int]) -> list[int | Exception]:
        return list(items[1:])

    with pytest.raises(AssertionError):
        async with asyncio.timeout(SECONDS_MAX):
            await GroupCommit[int, int](forget).submit(1)


async def test_a_caller_that_goes_away_does_not_break_its_batch() -> None:
    database = Database()
    commits = GroupCommit[int, int](database.flush)
    first, second, third = submit(commits, 1, 2, 3)
    await database.started.acquire()
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    database.let_go()
    assert (await first, await third) == (2, 6)
    assert second.cancelled()


async def test_a_caller_that_goes_away_before_its_flush_is_still_flushed() -> None:
    database = Database()
    commits = GroupCommit[int, int](database.flush)
    submit(commits, 0)
    await database.started.acquire()
    (gone,) = submit(commits, 1)
    await asyncio.sleep(0)
    gone.cancel()
    database.let_go()
    await commits.drain()
    assert database.batches == [[0], [1]]


async def test_more_callers_than_may_wait_are_refused_at_once_and_the_others_served() -> None:
    database = Database()
    commits = GroupCommit[int, int](database.flush, pending_rows_max=2)
    waiting = submit(commits, 0)
    await database.started.acquire()
    waiting += submit(commits, 1, 2, 3)
    async with asyncio.timeout(SECONDS_MAX):
        with pytest.raises(UnavailableError):
            await waiting[3]
    database.let_go()
    assert await asyncio.gather(*waiting[:3]) == [0, 2, 4]


async def test_draining_waits_for_everything_that_was_submitted() -> None:
    database = Database()
    commits = GroupCommit[int, int](database.flush, batch_rows_max=1)
    waiting = submit(commits, 1, 2, 3)
    await asyncio.sleep(0)
    database.let_go()
    await commits.drain()
    assert len(database.batches) == 3
    assert await asyncio.gather(*waiting) == [2, 4, 6]


async def test_draining_with_nothing_under_way_returns() -> None:
    await GroupCommit[int, int](Database().flush).drain()


@pytest.mark.parametrize("flushes_at_once_max", [1, 2, 3])
async def test_a_caller_that_comes_back_at_once_is_served_again(flushes_at_once_max: int) -> None:
    """The moment between a flusher's last look and its end is nobody's lost wake-up."""
    database = Database()
    database.let_go()
    commits = GroupCommit[int, int](database.flush, flushes_at_once_max=flushes_at_once_max)

    async def come_back(start: int) -> None:
        for item in range(start, start + 20):
            assert await commits.submit(item) == item * 2

    async with asyncio.timeout(SECONDS_MAX):
        await come_back(0)
        await asyncio.gather(*(come_back(n) for n in range(5)))


@pytest.mark.parametrize("flushes_at_once_max", [1, 2, 3])
async def test_whenever_a_caller_comes_it_is_served(flushes_at_once_max: int) -> None:
    """Callers come 0, 1, 2 … turns of the loop after all flushes were let go together."""
    for turns in range(12):
        database = Database()
        commits = GroupCommit[int, int](
            database.flush, flushes_at_once_max=flushes_at_once_max, batch_rows_max=1
        )
        waiting = submit(commits, *range(flushes_at_once_max))
        for _ in range(flushes_at_once_max):
            await database.started.acquire()
        database.let_go()
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting += submit(commits, 7)
        async with asyncio.timeout(SECONDS_MAX):
            assert (await asyncio.gather(*waiting))[-1] == 14


async def test_a_group_is_in_one_flush_at_a_time() -> None:
    """R6, R8: two flushes never wait for the same organization; the other flush carries on."""
    database = Database()
    commits = GroupCommit[int, int](
        database.flush, flushes_at_once_max=2, group_of=lambda item: item // 10
    )
    waiting = submit(commits, 11)
    await database.started.acquire()
    waiting += submit(commits, 12, 13, 21)
    await database.started.acquire()
    assert database.batches == [[11], [21]]
    database.let_go()
    await asyncio.gather(*waiting)
    assert database.batches == [[11], [21], [12, 13]]


async def test_each_group_has_its_share_of_a_batch_and_the_order_within_it_is_kept() -> None:
    database = Database()
    commits = GroupCommit[int, int](
        database.flush, batch_rows_max=4, group_of=lambda item: item // 100
    )
    waiting = submit(commits, 0)
    await database.started.acquire()
    waiting += submit(commits, *range(100, 110), 200, 201, 202)
    await asyncio.sleep(0)
    database.let_go()
    await asyncio.gather(*waiting)
    assert database.batches == [
        [0],
        [100, 101, 200, 201],
        [102, 103, 202, 104],
        [105, 106, 107, 108],
        [109],
    ]


async def test_a_batch_is_of_one_partition_and_each_has_its_turn() -> None:
    database = Database()
    commits = GroupCommit[int, int](
        database.flush, group_of=lambda item: item, partition_of=lambda group: hash(group) % 2
    )
    waiting = submit(commits, 0)
    async with asyncio.timeout(SECONDS_MAX):
        await database.started.acquire()
        waiting += submit(commits, 1, 2, 3, 4)
        await asyncio.sleep(0)
        database.let_go()
        assert await asyncio.gather(*waiting) == [0, 2, 4, 6, 8]
    assert database.batches == [[0], [1, 3], [2, 4]]


async def test_a_partition_whose_flushes_hang_leaves_flushes_to_the_others() -> None:
    database = Database()
    commits = GroupCommit[int, int](
        database.flush,
        flushes_at_once_max=4,
        flushes_of_partition_max=2,
        group_of=lambda item: item,
        partition_of=lambda group: hash(group) % 2,
    )
    hanging: list[asyncio.Task[int]] = []
    for item in (1, 3, 5, 7):  # of a node that is frozen
        hanging += submit(commits, item)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert database.batches == [[1], [3]]
    waiting = submit(commits, 2)
    await asyncio.sleep(0)
    waiting += submit(commits, 4)
    async with asyncio.timeout(SECONDS_MAX):
        for _ in range(4):
            await database.started.acquire()
        assert database.batches[2:] == [[2], [4]]
        database.let_go()
        assert await asyncio.gather(*hanging, *waiting) == [2, 6, 10, 14, 4, 8]
    assert database.batches[4:] == [[5, 7]]


async def test_a_flush_runs_in_the_context_of_the_group_commit_and_not_in_a_callers() -> None:
    caller: ContextVar[str] = ContextVar("caller", default="nobody")
    seen: list[str] = []

    async def flush(items: Sequence[int]) -> list[int | Exception]:
        seen.append(caller.get())
        caller.set("another flush")
        return list(items)

    commits = GroupCommit[int, int](flush)
    caller.set("a request")
    assert [await commits.submit(item) for item in (1, 2)] == [1, 2]
    assert seen == ["nobody", "nobody"]


async def test_a_context_that_is_given_is_taken_though_it_is_empty() -> None:
    caller: ContextVar[str] = ContextVar("caller", default="nobody")
    seen: list[str] = []

    async def flush(items: Sequence[int]) -> list[int | Exception]:
        seen.append(caller.get())
        return list(items)

    caller.set("a request")
    assert await GroupCommit[int, int](flush, context=Context()).submit(1) == 1
    assert seen == ["nobody"]
