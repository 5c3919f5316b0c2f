"""Group commit: concurrent callers share one transaction, and nobody waits on purpose.

What arrives while flushes are in flight is the next batch. An idle caller is flushed at once;
under load the batch grows by itself to what the database can take. There is no time window: a
fixed wait of 2 ms was measured to cost a third of the throughput.

Reads may share a statement in the same way: each begins after its callers came, and is over before
they are answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from shared.errors import UnavailableError

Item = TypeVar("Item")
Result = TypeVar("Result")


class GroupCommit(Generic[Item, Result]):
    """Collects items into batches for a few `flush` calls at a time.

    `flush` takes the items of a batch and returns a result for each, in order; an exception in
    place of a result reaches that caller alone, an exception from `flush` reaches all of them.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        flushes_at_once_max: int = 1,
        batch_rows_max: int = 500,
        pending_rows_max: int = 20_000,
    ) -> None:
        self._flush = flush
        self._batch_rows_max = batch_rows_max
        self._pending_rows_max = pending_rows_max
        self._pending: list[tuple[Item, asyncio.Future[Result]]] = []
        self._flushes_at_once_max = flushes_at_once_max
        self._flushing = 0
        self._flushers: set[asyncio.Task[None]] = set()

    async def submit(self, item: Item) -> Result:
        """Return the item's result after the transaction that holds it has committed.

        A caller that goes away while waiting does not take its batch with it. Raises
        UnavailableError at once when more callers wait than the database can serve.
        """
        if len(self._pending) >= self._pending_rows_max:
            raise UnavailableError("Too many requests wait for the database; try again.")
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._pending.append((item, future))
        if self._flushing < self._flushes_at_once_max:
            self._flushing += 1
            flusher = asyncio.create_task(self._flush_until_empty())
            self._flushers.add(flusher)
            flusher.add_done_callback(self._flushers.discard)
        return await future

    async def drain(self) -> None:
        """Wait until everything that was submitted has its answer (for a clean stop)."""
        while self._flushers:
            await asyncio.wait(self._flushers)

    async def _flush_until_empty(self) -> None:
        # Counted here and not by the task's end: between the two, a caller would start nobody.
        try:
            while self._pending:
                batch = self._pending[: self._batch_rows_max]
                del self._pending[: self._batch_rows_max]
                await self._flush_batch(batch)
        finally:
            self._flushing -= 1

    async def _flush_batch(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._flush([item for item, _ in batch])
            assert len(results) == len(batch), "flush must answer every item"  # noqa: S101 - a bug
        except Exception as error:  # noqa: BLE001 - each waiting caller gets it raised
            results = [error] * len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():  # the caller went away
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
