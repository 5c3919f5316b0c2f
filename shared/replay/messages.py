"""Replays and discards outbound messages by a person's decision; a worker sends them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypedDict
from uuid import UUID

from shared.errors import ConflictError, LeaseLostError, NotFoundError, ValidationError
from shared.ids import new_id
from shared.inbox.admin.model import Place
from shared.outbound.admin import store as deliveries
from shared.outbound.admin.store import DueDelivery, SelectedDelivery
from shared.outbound.model import MessageFilter, MessageKey, MessageState
from shared.outbound.rules import delivery_id, public_id, read_delivery_id
from shared.reasons import require_reason
from shared.replay import rules, store
from shared.replay.batches import AUDITED_IDS_MAX, TAKEN_OVER, Batches, Selected
from shared.replay.discards import NAMES_MAX, Chunk, Discarded, discard_matching
from shared.replay.model import (
    DEFAULT_OPTIONS,
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

PREVIEW_ROWS_MAX = 1_000
ANY = MessageFilter(state=None)
DISABLED = "its endpoint is disabled; add it again, then replay"
GONE = "the message does not exist any more"


class MessageReplayReport(TypedDict):
    """What a replay did, or in a dry run would do. It counts a message once for each endpoint.

    `applied`: due again. `noop`: a worker is sending it, or it is in another state by now.
    `replayed` has the first NAMES_MAX messages, and after `--resume` those since then.
    """

    batchId: str | None
    state: str
    dryRun: bool
    selected: int
    applied: int
    noop: int
    failed: int
    failures: list[Failure]
    replayed: list[str]


@dataclass(slots=True)
class _Names:
    """The first messages of a replay, in memory."""

    first: dict[str, None] = field(default_factory=dict)

    def add(self, keys: Sequence[MessageKey]) -> None:
        for key in keys:
            if len(self.first) < NAMES_MAX:
                self.first[public_id(key.id)] = None


@dataclass(frozen=True, slots=True)
class MessageReplayer:
    """Makes messages due again, with three days of attempts before them; a worker sends them.

    Guarantee: a message and its place in the counts commit together. A replay that was killed
    resumes with exact counts. One replay of messages runs at a time.
    """

    pool: Connections
    make_id: Callable[[], UUID] = new_id
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], float] = time.monotonic

    async def replay(
        self,
        selection: Sequence[UUID] | MessageFilter,
        *,
        actor: Actor | str,
        reason: str | None,
        only: MessageFilter = ANY,
        options: ReplayOptions = DEFAULT_OPTIONS,
    ) -> MessageReplayReport:
        """Replay the named messages that match `only`, delivered ones too, or those of a filter.

        Raises ConflictError while another replay runs, where no named message can be sent now, and
        for a disabled endpoint; NotFoundError for an unknown id; ValidationError.
        """
        if isinstance(selection, MessageFilter):
            await self._check_filter(selection)
            details: dict[str, Any] = {"filter": store.filter_text(selection)}
            chosen: Sequence[str] | MessageFilter = selection
        else:
            keys = await self._named(selection, only)
            names = list(dict.fromkeys(public_id(key.id) for key in keys))
            details = {"messages": names[:AUDITED_IDS_MAX]}
            chosen = [delivery_id(key) for key in keys]
        batch = await self._batches.start(
            chosen, actor=actor, reason=reason, options=options, details=details
        )
        return await self._run(batch)

    async def resume(self, batch_id: UUID, *, actor: str) -> MessageReplayReport:
        """Continue a replay where it stopped; a process that still runs it commits nothing more.

        Raises NotFoundError, ConflictError where it is finished or another replay runs.
        """
        return await self._run(await self._batches.resume(batch_id, actor=actor))

    async def preview(
        self, selection: Sequence[UUID] | MessageFilter, *, only: MessageFilter = ANY
    ) -> MessageReplayReport:
        """Return what a replay would make due. Nothing changes."""
        names, selected = _Names(), 0
        if isinstance(selection, MessageFilter):
            await self._check_filter(selection)
            until, after = datetime.now(UTC), None
            while True:
                async with self.pool.acquire() as connection:
                    rows = await deliveries.select(
                        connection,
                        selection,
                        until=until,
                        after=after,
                        limit=PREVIEW_ROWS_MAX,
                        sendable=True,
                    )
                if not rows:
                    break
                after = rows[-1]
                selected += len(rows)
                names.add([row.key for row in rows])
        else:
            keys = await self._named(selection, only)
            selected = len(keys)
            names.add(keys)
        return MessageReplayReport(
            batchId=None,
            state=BatchState.FINISHED,
            dryRun=True,
            selected=selected,
            applied=selected,
            noop=0,
            failed=0,
            failures=[],
            replayed=list(names.first),
        )

    @property
    def _batches(self) -> Batches:
        return Batches(self.pool, Kind.MESSAGES, self.make_id, self.sleep, self.clock)

    async def _named(self, ids: Sequence[UUID], only: MessageFilter) -> list[MessageKey]:
        await self._check_filter(only)
        ids = list(dict.fromkeys(ids))
        async with self.pool.acquire() as connection:
            if unknown := await deliveries.unknown(connection, ids):
                raise NotFoundError(f"There is no message {public_id(unknown)}.")
            keys = await deliveries.named(connection, ids, only, limit=rules.IDS_MAX + 1)
        if max(len(ids), len(keys)) > rules.IDS_MAX:
            raise ValidationError(f"ids: at most {rules.IDS_MAX}; select more by a filter")
        if ids and not keys:
            raise ConflictError(
                "Nothing to replay: the endpoint is disabled, or a worker has the message, or it is"
                " in another state."
            )
        return keys

    async def _check_filter(self, wanted: MessageFilter) -> None:
        """Raise for a moment in the future, and for an endpoint that receives nothing."""
        rules.check_since(wanted.since, datetime.now(UTC))
        if wanted.endpoint_id is None:
            return
        async with self.pool.acquire() as connection:
            is_disabled = await deliveries.is_disabled(connection, wanted.endpoint_id)
        if is_disabled is None:
            raise NotFoundError(f"There is no endpoint {wanted.endpoint_id}.")
        if is_disabled:
            raise ConflictError(
                f"The endpoint {wanted.endpoint_id} is disabled: add it again, then replay."
            )

    async def _run(self, batch: Batch) -> MessageReplayReport:
        names = _Names()

        async def apply(batch: Batch, ids: Sequence[str]) -> None:
            names.add(await self._make_due(batch, ids))

        await self._batches.run(batch, select=_select, apply=apply)
        async with self.pool.acquire() as connection:
            batch = await self._batches.find(connection, batch.id)
        return MessageReplayReport(
            batchId=str(batch.id),
            state=batch.state,
            dryRun=False,
            selected=batch.selected,
            applied=batch.applied,
            noop=batch.noop,
            failed=batch.failed,
            failures=list(batch.failures),
            replayed=list(names.first),
        )

    async def _make_due(self, batch: Batch, ids: Sequence[str]) -> list[MessageKey]:
        """Make messages due and count them in one transaction; return those that are due."""
        state = None if batch.filter is None else batch.filter.state
        async with self.pool.acquire() as connection, connection.transaction():
            if not await store.is_held(connection, batch.id, batch.holder):
                raise LeaseLostError(TAKEN_OVER)
            keys = [read_delivery_id(name) for name in ids]
            rows = await deliveries.make_due(connection, keys, _message_state(state))
            effects = dict.fromkeys(ids, Effect.FAILED)
            effects |= {delivery_id(row.key): _effect(row) for row in rows}
            disabled = {delivery_id(row.key) for row in rows if row.is_disabled}
            failures = [
                rules.failure(name, None, DISABLED if name in disabled else GONE)
                for name, effect in effects.items()
                if effect is Effect.FAILED
            ]
            if not await store.count_results(connection, batch.id, batch.holder, effects, failures):
                raise LeaseLostError(TAKEN_OVER)
        return [row.key for row in rows if row.is_due]


async def discard(
    pool: Connections, wanted: MessageFilter, *, actor: Actor | str, reason: str
) -> Discarded:
    """Discard what matches a filter, in chunks that commit by themselves; the error of each stays.

    Raises ValidationError for a wrong reason, ConflictError for a state with nothing to discard.
    """
    reason = require_reason(reason)
    state = wanted.state or MessageState.DEAD
    if state not in (MessageState.PENDING, MessageState.DEAD):
        raise ConflictError(f"A message that is {state} has nothing left to discard.")
    until = datetime.now(UTC)

    async def chunk(
        connection: Connection, after: SelectedDelivery | None
    ) -> Chunk[SelectedDelivery] | None:
        rows = await deliveries.select(
            connection,
            wanted,
            until=until,
            after=after,
            limit=rules.BATCH_ROWS_MAX,
            sendable=False,
        )
        if not rows:
            return None
        keys = await deliveries.discard(connection, [row.key for row in rows], state, reason)
        return Chunk([public_id(key.id) for key in keys], rows[-1])

    return await discard_matching(pool, Kind.MESSAGES, wanted, chunk, actor=actor, reason=reason)


async def _select(
    connection: Connection, selected: BatchFilter, part: Selected
) -> tuple[tuple[str, ...], Place | None]:
    """Select the next messages of a filter, and where the selection continues."""
    if not isinstance(selected, MessageFilter):
        raise TypeError(selected)
    after = part.after
    rows = await deliveries.select(
        connection,
        selected,
        until=part.until,
        after=SelectedDelivery(read_delivery_id(after.id), after.received_at) if after else None,
        limit=part.limit,
        sendable=True,
    )
    ids = tuple(delivery_id(row.key) for row in rows)
    return ids, Place(rows[-1].created_at, ids[-1]) if rows else None


def _message_state(state: str | None) -> MessageState | None:
    return None if state is None else MessageState(state)


def _effect(row: DueDelivery) -> Effect:
    if row.is_due:
        return Effect.APPLIED
    return Effect.FAILED if row.is_disabled else Effect.NOOP
