"""Replays events by a person's decision, through the handlers that apply them, batch by batch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from shared.access import service as audit
from shared.db.pool import UNAVAILABLE
from shared.errors import ConflictError, LeaseLostError, NotFoundError, ValidationError
from shared.events.model import ProcessedEvent
from shared.events.service import Applier
from shared.inbox import store as inbox
from shared.inbox.admin import store as admin
from shared.inbox.admin.model import EventFilter, Place
from shared.inbox.model import ClaimedEvent
from shared.inbox.retention import store as retention
from shared.replay import preview, rules, store
from shared.replay.model import (
    DEFAULT_OPTIONS,
    TEST_MODE,
    Batch,
    BatchState,
    Effect,
    Failure,
    Mode,
    ReplayOptions,
    ReplayReport,
    Selection,
)
from shared.replay.refetch import Refetcher

if TYPE_CHECKING:
    from shared.access.model import Actor
    from shared.db.pool import Connection, Connections

LEASE = timedelta(seconds=60)
TAKEN_OVER = "Another process has resumed this replay, or it was stopped: this one changes nothing."


@dataclass(frozen=True, slots=True)
class Replayer:
    """Replays events whatever their state; what was applied before is a no-op by its key.

    Guarantee: an event's effects and its place in the counts commit together. A replay that was
    killed resumes with exact counts, and applies nothing twice. One replay runs at a time.
    """

    pool: Connections
    applier: Applier
    make_id: Callable[[], UUID]
    mode: Mode = TEST_MODE
    refetcher: Refetcher | None = None
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], float] = time.monotonic

    async def replay(
        self,
        selection: Selection,
        *,
        actor: Actor | str,
        reason: str | None,
        options: ReplayOptions = DEFAULT_OPTIONS,
    ) -> ReplayReport:
        """Apply the named events, or those that match a filter, their attempts counted anew.

        Raises ConflictError while another replay runs, ValidationError for a wrong reason or
        filter. Ids that no event has count as failed.
        """
        reason = rules.check_reason(reason)
        selection = _checked(selection)
        batch_id = self.make_id()
        async with self.pool.acquire() as connection, connection.transaction():
            batch = await store.start(
                connection,
                batch_id,
                self.make_id(),
                selection,
                actor=str(actor),
                reason=reason,
                options=options,
                lease=rules.HOLDER_LEASE,
            )
            if batch is None:
                raise await _running_error(connection)
            await _audit(connection, batch, "events.replay", actor)
        return await self._run(batch)

    async def resume(self, batch_id: UUID, *, actor: str) -> ReplayReport:
        """Continue a replay where it stopped; a process that still runs it commits nothing more.

        Raises NotFoundError, ConflictError where it is finished or another replay runs.
        """
        async with self.pool.acquire() as connection, connection.transaction():
            found = await store.find(connection, batch_id)
            if found is None:
                raise NotFoundError(f"There is no replay {batch_id}.")
            other = await store.running(connection)
            if other is not None and other["id"] != batch_id:
                raise await _running_error(connection)
            batch = await store.resume(connection, batch_id, self.make_id(), rules.HOLDER_LEASE)
            if batch is None:
                raise ConflictError(f"The replay {batch_id} is finished.")
            await _audit(connection, batch, "events.replay.resume", actor)
        return await self._run(batch)

    async def preview(
        self,
        selection: Selection,
        *,
        options: ReplayOptions = DEFAULT_OPTIONS,
    ) -> ReplayReport:
        """Return what a replay would do: the handlers run in a transaction that is rolled back.

        Nothing changes: no row of any table, nothing at Stripe (which is only read), no message.
        """
        selection = _checked(selection)
        rehearsal = preview.Preview(
            pool=self.pool,
            applier=self.applier,
            mode=self.mode,
            refetcher=self.refetcher if options.refetch else None,
            clock=self.clock,
            token=self.make_id(),
        )
        return await rehearsal.run(selection)

    async def _run(self, batch: Batch) -> ReplayReport:
        try:
            state = await self._chunks(batch)
        except Exception:
            with suppress(*UNAVAILABLE):
                await self._end(batch, BatchState.STOPPED)
            raise
        if not await self._end(batch, state):
            raise LeaseLostError(TAKEN_OVER)
        return await self.report(batch.id)

    async def _end(self, batch: Batch, state: BatchState) -> bool:
        async with self.pool.acquire() as connection:
            return await store.end(connection, batch.id, batch.holder, state)

    async def _chunks(self, batch: Batch) -> BatchState:
        """Apply what is in flight of an interrupted run, then chunk by chunk; the final state."""
        failed_before = batch.failed
        ids = batch.in_flight
        while True:
            started = self.clock()
            if ids:
                await self._apply(batch, ids)
            async with self.pool.acquire() as connection:
                now = await store.find(connection, batch.id)
            if now is None or now.holder != batch.holder:
                raise LeaseLostError(TAKEN_OVER)
            size = rules.chunk_size(batch.options, now.failed - failed_before)
            if size == 0:
                return BatchState.STOPPED
            pause = rules.pause_seconds(batch.options, len(ids), self.clock() - started)
            if pause > 0:
                await self.sleep(pause)
            ids = await self._select(now, size)
            if not ids:
                return BatchState.FINISHED

    async def _select(self, batch: Batch, size: int) -> tuple[str, ...]:
        """Select the next events, and note them as in flight."""
        async with self.pool.acquire() as connection, connection.transaction():
            if not await store.is_held(connection, batch.id, batch.holder):
                raise LeaseLostError(TAKEN_OVER)
            after: Place | None = None
            next_place = batch.next_place
            if batch.filter is None:
                ids = (batch.ids or ())[next_place : next_place + size]
                next_place += len(ids)
            else:
                places = await admin.select_for_replay(
                    connection, batch.filter, until=batch.until, after=batch.after, limit=size
                )
                ids = tuple(dict.fromkeys(place.id for place in places))
                after = places[-1] if places else None
            await store.select_chunk(connection, batch.id, ids, after=after, next_place=next_place)
        return ids

    async def _apply(self, batch: Batch, ids: Sequence[str]) -> None:
        """Lease and apply events; those without a result failed, and were not tried."""
        objects: dict[str, str] = {}
        if batch.options.refetch:
            if self.refetcher is None:
                raise ValidationError("refetch: there is no Stripe client to read with")
            async with self.pool.acquire() as connection:
                rows = await admin.stored(connection, ids)
            found = await self.refetcher.payloads(rows)
            objects = found.payloads
            await self._count(
                batch,
                dict.fromkeys(found.errors, Effect.FAILED),
                [rules.failure(name, None, error) for name, error in found.errors.items()],
            )
        wanted = [name for name in ids if not batch.options.refetch or name in objects]
        events = await self._claim(batch, wanted)
        events = [replace(e, payload=objects.get(e.id, e.payload)) for e in events]

        async def record(connection: Connection, processed: Sequence[ProcessedEvent]) -> None:
            await _record(connection, batch, processed)

        applier = replace(self.applier, on_finish=record)
        if events:
            await applier.apply(batch.holder, events, LEASE)
        await self._count_untried(batch)

    async def _claim(self, batch: Batch, ids: Sequence[str]) -> list[ClaimedEvent]:
        async with self.pool.acquire() as connection, connection.transaction():
            return await inbox.claim_for_replay(
                connection,
                ids,
                token=batch.holder,
                lease=LEASE,
                livemode=self.mode.livemode,
                accounts=self.mode.accounts,
                without_payload=batch.options.refetch,
            )

    async def _count_untried(self, batch: Batch) -> None:
        async with self.pool.acquire() as connection:
            now = await store.find(connection, batch.id)
            left = () if now is None else now.in_flight
            deleted = await retention.deleted_payloads(connection, left) if left else {}
        failures = [rules.failure(n, None, rules.not_tried(deleted.get(n))) for n in left]
        await self._count(batch, dict.fromkeys(left, Effect.FAILED), failures)

    async def _count(
        self, batch: Batch, effects: dict[str, Effect], failures: Sequence[Failure]
    ) -> None:
        if not effects:
            return
        async with self.pool.acquire() as connection:
            if not await store.count_results(connection, batch.id, batch.holder, effects, failures):
                raise LeaseLostError(TAKEN_OVER)

    async def report(self, batch_id: UUID) -> ReplayReport:
        """Return what a replay did so far. Raises NotFoundError."""
        async with self.pool.acquire() as connection:
            batch = await store.find(connection, batch_id)
            if batch is None:
                raise NotFoundError(f"There is no replay {batch_id}.")
            return ReplayReport(
                batchId=str(batch.id),
                state=batch.state,
                dryRun=False,
                selected=batch.selected,
                applied=batch.applied,
                noop=batch.noop,
                failed=batch.failed,
                failures=list(batch.failures),
                organizations=await store.changed_organizations(connection, batch_id),
                diff=await store.diff(connection, batch_id),
            )


async def _record(
    connection: Connection, batch: Batch, processed: Sequence[ProcessedEvent]
) -> None:
    """Count results and note what they changed, in the transaction of the effects."""
    if not await store.count_results(
        connection, batch.id, batch.holder, rules.effects(processed), rules.failures(processed)
    ):
        raise LeaseLostError(TAKEN_OVER)
    organizations = rules.touched(processed)
    if organizations:
        rows = await store.rows_of_transaction(connection, organizations)
        await store.add_changes(connection, batch.id, rules.changes(rows))


def _checked(selection: Selection) -> Selection:
    if isinstance(selection, EventFilter):
        rules.check_since(selection.since, datetime.now(UTC))
        return selection
    ids = list(dict.fromkeys(selection))
    if len(ids) > rules.IDS_MAX:
        raise ValidationError(f"ids: at most {rules.IDS_MAX}; select more by a filter")
    return ids


async def _audit(connection: Connection, batch: Batch, action: str, actor: Actor | str) -> None:
    named = list((batch.ids or ())[: rules.BATCH_ROWS_MAX * 5])
    selected = {"filter": store.filter_text(batch.filter)} if batch.filter else {"events": named}
    await audit.record(
        connection,
        actor=actor,
        action=action,
        subject=str(batch.id),
        reason=batch.reason,
        details=selected,
    )


async def _running_error(connection: Connection) -> ConflictError:
    other = await store.running(connection)
    if other is None:
        return ConflictError("Another replay has just ended; try again.")
    return ConflictError(
        f"The replay {other['id']} runs since {other['started_at']:%Y-%m-%dT%H:%M:%SZ}, started by"
        f" {other['actor']}. Wait for its end; if its process is gone, finish it with prepaid"
        f" events replay --resume {other['id']}."
    )
