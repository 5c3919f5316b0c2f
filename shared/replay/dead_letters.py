"""What operators read and decide about events: lists with money, causes, discards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from shared.access import service as audit
from shared.errors import ConflictError, NotFoundError, ValidationError
from shared.inbox.admin import store
from shared.inbox.admin.model import Cause, EventFilter, Place
from shared.inbox.model import EventState
from shared.reasons import require_reason
from shared.replay import rules
from shared.replay.discards import NAMES_MAX, Chunk, Discarded, discard_matching
from shared.replay.model import Kind
from shared.replay.money import EventMoney, money_of
from shared.replay.next_steps import NextStep, next_step

if TYPE_CHECKING:
    import asyncpg

    from shared.access.model import Actor
    from shared.db.pool import Connection, Connections

COUNTED_MAX = 100
COUNTED_EXACTLY_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class EventSummary:
    """An event in a list: its state, its error and what to do next, and whose money it is about.

    `organization` is the slug of the organization that it was applied to, else the name that its
    metadata gives.
    """

    id: str
    type: str
    state: EventState
    attempts: int
    error: str | None
    error_class: str | None
    discard_reason: str | None
    received_at: datetime
    organization_id: UUID | None
    organization: str | None
    money: EventMoney
    next_step: NextStep | None


@dataclass(frozen=True, slots=True)
class Page:
    """A page of events, newest first; `after` is where the next one begins."""

    events: list[EventSummary]
    after: tuple[datetime, str] | None


async def list_events(
    connection: Connection,
    *,
    state: EventState | None = None,
    event_type: str | None = None,
    since: datetime | None = None,
    error_class: str | None = None,
    after: tuple[datetime, str] | None = None,
    limit: int = 50,
) -> Page:
    """Return a page of events, newest first."""
    rows = await store.list_events(
        connection,
        state=state,
        event_type=event_type,
        since=since,
        after=after,
        limit=limit + 1,
        error_class=error_class,
    )
    page = rows[:limit]
    more = len(rows) > limit
    return Page(
        events=[summary(row) for row in page],
        after=(page[-1]["received_at"], page[-1]["id"]) if more else None,
    )


def summary(row: asyncpg.Record) -> EventSummary:
    """Return a stored event with its money and its next step."""
    money = money_of(row["payload"])
    state = EventState(row["state"])
    is_open = state in (EventState.DEAD, EventState.RETRYING)
    return EventSummary(
        id=row["id"],
        type=row["type"],
        state=state,
        attempts=row["attempts"],
        error=row["reason"],
        error_class=row["error_class"],
        discard_reason=row["discard_reason"],
        received_at=row["received_at"],
        organization_id=row["organization_id"],
        organization=row["slug"] or money.organization,
        money=money,
        next_step=next_step(row["error_class"]) if is_open else None,
    )


async def causes(connection: Connection, *, exact: bool = False) -> list[Cause]:
    """Return the dead letters by type and error class.

    A group counts up to COUNTED_MAX events, whatever their number; `exact` counts all.
    """
    count_max = COUNTED_EXACTLY_MAX if exact else COUNTED_MAX
    return await store.causes(connection, count_max=count_max)


async def discard(
    pool: Connections,
    selection: Sequence[str] | EventFilter,
    *,
    actor: Actor | str,
    reason: str,
) -> Discarded:
    """Discard events permanently, each with its audit entry; the error of each stays.

    Raises ValidationError for a reason that is empty or too long, NotFoundError for an id that no
    event has, ConflictError for a named event that has nothing left to discard. Each chunk of a
    filter commits by itself.
    """
    reason = require_reason(reason)
    if not isinstance(selection, EventFilter):
        return await _discard_named(pool, list(dict.fromkeys(selection)), actor, reason)
    if selection.state is EventState.APPLIED:
        raise ConflictError("An applied event has nothing left to discard.")
    until = datetime.now(UTC)

    async def chunk(connection: Connection, after: Place | None) -> Chunk[Place] | None:
        places = await store.select_for_replay(
            connection, selection, until=until, after=after, limit=rules.BATCH_ROWS_MAX
        )
        if not places:
            return None
        ids = await store.discard(
            connection, [place.id for place in places], reason, still=selection
        )
        return Chunk(ids, places[-1])

    return await discard_matching(pool, Kind.EVENTS, selection, chunk, actor=actor, reason=reason)


async def _discard_named(
    pool: Connections, ids: Sequence[str], actor: Actor | str, reason: str
) -> Discarded:
    if len(ids) > rules.IDS_MAX:
        raise ValidationError(f"ids: at most {rules.IDS_MAX}; select more by a filter")
    async with pool.acquire() as connection, connection.transaction():
        if unknown := await store.unknown(connection, ids):
            raise NotFoundError(f"There is no event {unknown[0]!r}.")
        discarded = set(await store.discard(connection, ids, reason))
        if left := [name for name in ids if name not in discarded]:
            (row, *_) = await store.show_event(connection, left[0])
            raise ConflictError(f"{left[0]} is {row['state']}: there is nothing left to discard.")
        await audit.record_each(
            connection, actor=actor, action="events.discard", subjects=ids, reason=reason
        )
    return Discarded(len(ids), list(ids)[:NAMES_MAX])
