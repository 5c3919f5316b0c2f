"""The mechanism of every replay: a stored batch, applied chunk by chunk, and resumable."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg

from shared.access import service as audit
from shared.db.pool import UNAVAILABLE
from shared.errors import ConflictError, LeaseLostError, NotFoundError
from shared.inbox.admin.model import Place
from shared.reasons import check_reason
from shared.replay import rules, store
from shared.replay.model import (
    Batch,
    BatchFilter,
    BatchState,
    Effect,
    Failure,
    Kind,
    ReplayOptions,
)

if TYPE_CHECKING:
    from shared.access.model import Actor
    from shared.db.pool import Connection, Connections

AUDITED_IDS_MAX = 1_000
TAKEN_OVER = "Another process has resumed this replay, or it was stopped: this one changes nothing."


@dataclass(frozen=True, slots=True)
class Selected:
    """The part of a filter that comes next: after a place, until a moment, so many rows."""

    until: datetime
    after: Place | None
    limit: int


if TYPE_CHECKING:
    Select = Callable[
        [Connection, BatchFilter, Selected], Awaitable[tuple[tuple[str, ...], Place | None]]
    ]
    Apply = Callable[[Batch, Sequence[str]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Batches:
    """Replays of one kind. At most one runs at a time; a process that lost it commits nothing more.

    Guarantee, where `apply` counts results in the transaction of their effects: a batch that was
    killed resumes with exact counts.
    """

    pool: Connections
    kind: Kind
    make_id: Callable[[], UUID]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], float] = time.monotonic

    async def start(
        self,
        selection: Sequence[str] | BatchFilter,
        *,
        actor: Actor | str,
        reason: str | None,
        options: ReplayOptions,
        details: dict[str, Any],
    ) -> Batch:
        """Store a batch and its audit entry, which has `details`.

        Raises ConflictError while another one of the kind runs, ValidationError for a wrong reason.
        """
        reason = check_reason(reason)
        async with self.pool.acquire() as connection, connection.transaction():
            batch = await store.start(
                connection,
                self.kind,
                self.make_id(),
                self.make_id(),
                selection,
                actor=str(actor),
                reason=reason,
                options=options,
            )
            if batch is None:
                raise await self._running_error(connection)
            await self._audit(connection, batch, "replay", actor, details)
        return batch

    async def resume(self, batch_id: UUID, *, actor: str) -> Batch:
        """Give a batch to this process. Raises NotFoundError, ConflictError as for `start`."""
        async with self.pool.acquire() as connection, connection.transaction():
            await self.find(connection, batch_id)
            try:
                batch = await store.resume(connection, self.kind, batch_id, self.make_id())
            except asyncpg.UniqueViolationError:
                raise await self._running_error(connection) from None
            if batch is None:
                raise ConflictError(f"The replay {batch_id} is finished.")
            details = {} if batch.filter is None else {"filter": store.filter_text(batch.filter)}
            await self._audit(connection, batch, "replay.resume", actor, details)
        return batch

    async def find(self, connection: Connection, batch_id: UUID) -> Batch:
        """Return a batch with its progress. Raises NotFoundError."""
        batch = await store.find(connection, self.kind, batch_id)
        if batch is None:
            raise NotFoundError(f"There is no replay {batch_id}.")
        return batch

    async def run(self, batch: Batch, *, select: Select, apply: Apply) -> None:
        """Apply a batch to its end, or until it stops. Raises LeaseLostError where it was taken.

        Where it is cancelled, the CancelledError has a note that says how to continue.
        """
        try:
            state = await self._chunks(batch, select, apply)
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError):
                error.add_note(f"Continue with prepaid {self.kind} replay --resume {batch.id}")
            with suppress(*UNAVAILABLE):
                await self._end(batch, BatchState.STOPPED)
            raise
        if not await self._end(batch, state):
            raise LeaseLostError(TAKEN_OVER)

    async def count(
        self, batch: Batch, effects: Mapping[str, Effect], failures: Sequence[Failure]
    ) -> None:
        """Count results without effects. Raises LeaseLostError."""
        if not effects:
            return
        async with self.pool.acquire() as connection:
            if not await store.count_results(connection, batch.id, batch.holder, effects, failures):
                raise LeaseLostError(TAKEN_OVER)

    async def _end(self, batch: Batch, state: BatchState) -> bool:
        async with self.pool.acquire() as connection:
            return await store.end(connection, batch.id, batch.holder, state)

    async def _chunks(self, batch: Batch, select: Select, apply: Apply) -> BatchState:
        """Apply what is in flight of an interrupted run, then chunk by chunk; the final state."""
        failed_before = batch.failed
        ids = batch.in_flight
        while True:
            started = self.clock()
            if ids:
                await apply(batch, ids)
            async with self.pool.acquire() as connection:
                now = await store.find(connection, self.kind, batch.id)
            if now is None or now.holder != batch.holder:
                raise LeaseLostError(TAKEN_OVER)
            size = rules.chunk_size(batch.options, now.failed - failed_before)
            if size == 0:
                return BatchState.STOPPED
            pause = rules.pause_seconds(batch.options, len(ids), self.clock() - started)
            if pause > 0:
                await self.sleep(pause)
            ids = await self._select(now, size, select)
            if not ids:
                return BatchState.FINISHED

    async def _select(self, batch: Batch, size: int, select: Select) -> tuple[str, ...]:
        """Select what comes next, and note it as in flight."""
        async with self.pool.acquire() as connection, connection.transaction():
            after: Place | None = None
            next_place = batch.next_place
            if batch.filter is None:
                ids = (batch.ids or ())[next_place : next_place + size]
                next_place += len(ids)
            else:
                part = Selected(batch.until, batch.after, size)
                ids, after = await select(connection, batch.filter, part)
            if not await store.select_chunk(
                connection, batch.id, batch.holder, ids, after=after, next_place=next_place
            ):
                raise LeaseLostError(TAKEN_OVER)
        return ids

    async def _audit(
        self,
        connection: Connection,
        batch: Batch,
        act: str,
        actor: Actor | str,
        details: dict[str, Any],
    ) -> None:
        await audit.record(
            connection,
            actor=actor,
            action=f"{self.kind}.{act}",
            subject=str(batch.id),
            reason=batch.reason,
            details=details,
        )

    async def _running_error(self, connection: Connection) -> ConflictError:
        other = await store.running(connection, self.kind)
        if other is None:
            return ConflictError("Another replay has just ended; try again.")
        return ConflictError(
            f"The replay {other['id']} runs since {other['started_at']:%Y-%m-%dT%H:%M:%SZ}, started"
            f" by {other['actor']}. Wait for its end; if its process is gone, finish it with"
            f" prepaid {self.kind} replay --resume {other['id']}."
        )
