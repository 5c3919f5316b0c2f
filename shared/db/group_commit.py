"""Group commit: concurrent callers share one transaction, without an artificial delay.

Items that arrive while flushes are in flight form the next batch. A lone item is flushed at once;
under load, batches grow to what the database can process. There is no time window: a fixed wait of
2 ms was measured to cost a third of the throughput.

Reads may share a statement in the same way: it starts after its callers have called, and ends
before they return.

Items may belong to groups. A group is in one flush at a time, so that two flushes never wait for
the same rows; where more items wait than fit into a batch, each group gets an equal share. Groups
may be of partitions, such as the nodes of a cluster: a batch is of one partition, and each has a
limited number of flushes, so that the outage of one neither fails nor delays items of another.

Flushes run in the context in which the group commit was created, not in that of a caller: they
work for several callers, and some of these may be gone.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextvars import Context, copy_context
from typing import Any, Generic, TypeVar

from shared.errors import UnavailableError

Item = TypeVar("Item")
Result = TypeVar("Result")

RETRY_AFTER_SECONDS = 1


class GroupCommit(Generic[Item, Result]):
    """Collects items into batches for a few `flush` calls at a time.

    `flush` takes the items of a batch and returns a result for each, in order; an exception in
    place of a result reaches that caller alone, an exception from `flush` reaches all of them.

    At most `flushes_of_partition_max` of the flushes are of one partition, by default all.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        flushes_at_once_max: int = 1,
        batch_rows_max: int = 500,
        pending_rows_max: int = 20_000,
        group_of: Callable[[Item], Hashable] | None = None,
        partition_of: Callable[[Any], Hashable] | None = None,
        flushes_of_partition_max: int | None = None,
        context: Context | None = None,
    ) -> None:
        self._flush = flush
        self._batch_rows_max = batch_rows_max
        self._pending_rows_max = pending_rows_max
        self._group_of = group_of
        self._partition_of = partition_of
        # Waiting items by group; the group whose turn is next comes first.
        self._pending: dict[Hashable, deque[tuple[Item, asyncio.Future[Result]]]] = {}
        self._pending_rows = 0
        self._groups_in_flight: set[Hashable] = set()
        self._flushes_of_partition: Counter[Hashable] = Counter()
        self._flushes_of_partition_max = flushes_of_partition_max or flushes_at_once_max
        self._context = copy_context() if context is None else context
        self._flushes_at_once_max = flushes_at_once_max
        self._flushing = 0
        self._loop: asyncio.AbstractEventLoop  # while something is flushed
        self._flushers: set[asyncio.Task[None]] = set()

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return self._flushing == 0

    async def submit(self, item: Item) -> Result:
        """Return the item's result after the transaction that holds it has committed.

        Cancelling a waiting caller does not cancel its batch. Raises UnavailableError at once when
        too many items wait already.
        """
        if self._pending_rows >= self._pending_rows_max:
            raise UnavailableError(
                "Too many requests wait for the database; try again.",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        if not self._flushing:
            self._loop = asyncio.get_running_loop()  # a system call (getpid), up to Python 3.11
        future: asyncio.Future[Result] = self._loop.create_future()
        group = None if self._group_of is None else self._group_of(item)
        waiting = self._pending.get(group)
        if waiting is None:
            waiting = self._pending[group] = deque()
        waiting.append((item, future))
        self._pending_rows += 1
        # A flusher takes the items that arrive meanwhile for its groups and its partition.
        if (
            self._flushing < self._flushes_at_once_max
            and group not in self._groups_in_flight
            and self._has_flush(self._partition(group))
        ):
            self._flushing += 1
            flusher = self._loop.create_task(
                self._flush_until_empty(), context=self._context.copy()
            )
            self._flushers.add(flusher)
            flusher.add_done_callback(self._flushers.discard)
        return await future

    async def drain(self) -> None:
        """Wait until every submitted item has its result (for a clean shutdown)."""
        while self._flushers:
            await asyncio.wait(self._flushers)

    async def _flush_until_empty(self) -> None:
        # Counted here, not when the task ends: in between, a caller would not start a new flusher.
        try:
            while batch := self._take_batch():
                groups, entries = batch
                partition = self._partition(groups[0])
                self._flushes_of_partition[partition] += 1
                if self._group_of is not None:
                    self._groups_in_flight.update(groups)
                await self._flush_batch(entries)
                self._groups_in_flight.difference_update(groups)
                self._flushes_of_partition[partition] -= 1
        finally:
            self._flushing -= 1

    def _take_batch(
        self,
    ) -> tuple[list[Hashable], list[tuple[Item, asyncio.Future[Result]]]] | None:
        """Take the next batch, with its groups: an equal share for each, then as much as fits.

        None where nothing waits.
        """
        ready = self._ready()
        entries: list[tuple[Item, asyncio.Future[Result]]] = []
        share = max(1, self._batch_rows_max // max(1, len(ready)))
        taken = 0  # groups: the first ones, unless each has no more than its share
        for most in (share, self._batch_rows_max):
            for place, group in enumerate(ready, start=1):
                waiting = self._pending[group]
                room = self._batch_rows_max - len(entries)
                if room == 0:
                    break
                entries += [waiting.popleft() for _ in range(min(most, room, len(waiting)))]
                taken = max(taken, place)
        for group in ready[:taken]:
            waiting = self._pending.pop(group)
            if waiting:  # its next turn comes after the others'
                self._pending[group] = waiting
        self._pending_rows -= len(entries)
        return (ready[:taken], entries) if entries else None

    def _ready(self) -> list[Hashable]:
        """Return the groups that can be flushed, all of the partition whose turn is next."""
        waiting = [group for group in self._pending if group not in self._groups_in_flight]
        if self._partition_of is None:
            return waiting
        by_partition: dict[Hashable, list[Hashable]] = {}
        for group in waiting:
            by_partition.setdefault(self._partition_of(group), []).append(group)
        return next((by_partition[p] for p in by_partition if self._has_flush(p)), [])

    def _has_flush(self, partition: Hashable) -> bool:
        """Return whether a partition has not all of its flushes in progress."""
        return self._flushes_of_partition[partition] < self._flushes_of_partition_max

    def _partition(self, group: Hashable) -> Hashable:
        return None if self._partition_of is None else self._partition_of(group)

    async def _flush_batch(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._flush([item for item, _ in batch])
            assert len(results) == len(batch), "flush must answer every item"  # noqa: S101 - a bug
        except Exception as error:  # noqa: BLE001 - raised to each waiting caller
            results = [error] * len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():  # the caller was cancelled
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
