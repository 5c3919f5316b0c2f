"""Replays events by a person's decision, through the handlers that apply them, batch by batch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from shared.errors import LeaseLostError, ValidationError
from shared.events.model import ProcessedEvent
from shared.events.service import Applier
from shared.inbox import store as inbox
from shared.inbox.admin import store as admin
from shared.inbox.admin.model import EventFilter, Place
from shared.inbox.model import ClaimedEvent
from shared.inbox.retention import store as retention
from shared.replay import preview, rules, store
from shared.replay.batches import AUDITED_IDS_MAX, TAKEN_OVER, Batches, Selected
from shared.replay.model import (
    DEFAULT_OPTIONS,
    TEST_MODE,
    Batch,
    BatchFilter,
    Effect,
    Kind,
    Mode,
    ReplayOptions,
    ReplayReport,
    Selection,
)
from shared.replay.refetch import Refetcher
from shared.replay.rehearsal import OneConnection

if TYPE_CHECKING:
    from shared.access.model import Actor
    from shared.db.pool import Connection, Connections

LEASE = timedelta(seconds=60)


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
        selection = _checked(selection)
        details: dict[str, Any] = (
            {"filter": store.filter_text(selection)}
            if isinstance(selection, EventFilter)
            else {"events": list(selection[:AUDITED_IDS_MAX])}
        )
        batch = await self._batches.start(
            selection, actor=actor, reason=reason, options=options, details=details
        )
        return await self._run(batch)

    async def resume(self, batch_id: UUID, *, actor: str) -> ReplayReport:
        """Continue a replay where it stopped; a process that still runs it commits nothing more.

        Raises NotFoundError, ConflictError where it is finished or another replay runs.
        """
        return await self._run(await self._batches.resume(batch_id, actor=actor))

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

    @property
    def _batches(self) -> Batches:
        return Batches(self.pool, Kind.EVENTS, self.make_id, self.sleep, self.clock)

    async def _run(self, batch: Batch) -> ReplayReport:
        await self._batches.run(batch, select=_select, apply=self._apply)
        return await self.report(batch.id)

    async def _apply(self, batch: Batch, ids: Sequence[str]) -> None:
        """Lease and apply events; those without a result failed, and were not tried."""
        objects: dict[str, str] = {}
        if batch.options.refetch:
            if self.refetcher is None:
                raise ValidationError("refetch: there is no Stripe client to read with")
            async with self.pool.acquire() as connection:
                rows = await admin.stored(
                    connection, ids, livemode=self.mode.livemode, accounts=self.mode.accounts
                )
            found = await self.refetcher.payloads(rows)
            objects = found.payloads
            await self._batches.count(
                batch,
                dict.fromkeys(found.errors, Effect.FAILED),
                [rules.failure(name, None, error) for name, error in found.errors.items()],
            )
        wanted = [name for name in ids if not batch.options.refetch or name in objects]
        events = await self._claim(batch, wanted)
        events = [e.with_payload(objects[e.id]) if e.id in objects else e for e in events]

        if events:
            await self._apply_claimed(batch, events)
        await self._count_untried(batch)

    async def _apply_claimed(self, batch: Batch, events: Sequence[ClaimedEvent]) -> None:
        """Apply events; count and note what they did in the transactions of their effects.

        The second connection is acquired before any transaction opens: none waits for it.
        """
        async with self.pool.acquire() as second:
            others = OneConnection(second)

            async def record(connection: Connection, processed: Sequence[ProcessedEvent]) -> None:
                await _record(connection, others, batch, processed)

            applier = replace(self.applier, on_finish=record)
            await applier.apply(batch.holder, events, LEASE)

    async def _claim(self, batch: Batch, ids: Sequence[str]) -> list[ClaimedEvent]:
        """Lease events, before the batch is locked, as the transactions of their effects do."""
        async with self.pool.acquire() as connection, connection.transaction():
            events = await inbox.claim_for_replay(
                connection,
                ids,
                token=batch.holder,
                lease=LEASE,
                livemode=self.mode.livemode,
                accounts=self.mode.accounts,
                without_payload=batch.options.refetch,
            )
            if not await store.is_held(connection, batch.id, batch.holder):
                raise LeaseLostError(TAKEN_OVER)
        return events

    async def _count_untried(self, batch: Batch) -> None:
        async with self.pool.acquire() as connection:
            now = await store.find(connection, Kind.EVENTS, batch.id)
            left = () if now is None else now.in_flight
            deleted = await retention.deleted_payloads(connection, left) if left else {}
        failures = [rules.failure(n, None, rules.not_tried(deleted.get(n))) for n in left]
        await self._batches.count(batch, dict.fromkeys(left, Effect.FAILED), failures)

    async def report(self, batch_id: UUID) -> ReplayReport:
        """Return what a replay did so far. Raises NotFoundError."""
        async with self.pool.acquire() as connection:
            batch = await self._batches.find(connection, batch_id)
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


async def _select(
    connection: Connection, selected: BatchFilter, place: Selected
) -> tuple[tuple[str, ...], Place | None]:
    """Select the next events of a filter, and where the selection continues."""
    if not isinstance(selected, EventFilter):
        raise TypeError(selected)
    places = await admin.select_for_replay(
        connection, selected, until=place.until, after=place.after, limit=place.limit
    )
    return tuple(dict.fromkeys(each.id for each in places)), places[-1] if places else None


async def _record(
    connection: Connection,
    others: Connections,
    batch: Batch,
    processed: Sequence[ProcessedEvent],
) -> None:
    """Count results and note what they changed, in the transaction of the effects.

    `others` sees what others committed, and nothing of this transaction.
    """
    if not await store.count_results(
        connection, batch.id, batch.holder, rules.effects(processed), rules.failures(processed)
    ):
        raise LeaseLostError(TAKEN_OVER)
    organizations = rules.touched(processed)
    if not organizations:
        return
    rows = await store.rows_of_transaction(connection, organizations)
    if rows:
        async with others.acquire() as second:
            committed = await store.existing(second, rows)
        own = [row for row in rows if row.id not in committed]
        await store.add_changes(connection, batch.id, rules.changes(own))


def _checked(selection: Selection) -> Selection:
    if isinstance(selection, EventFilter):
        rules.check_since(selection.since, datetime.now(UTC))
        return selection
    ids = list(dict.fromkeys(selection))
    if len(ids) > rules.IDS_MAX:
        raise ValidationError(f"ids: at most {rules.IDS_MAX}; select more by a filter")
    return ids
