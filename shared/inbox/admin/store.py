"""SQL for operators: list, show, select, group and discard events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from shared.db.queries import beside
from shared.inbox.admin.model import Cause, EventFilter, Place
from shared.inbox.model import EventState

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__)

CAUSES_MAX = 100

# The states of the partial index `stripe_events_in_state`.
_RARE = frozenset(
    {EventState.DEAD, EventState.DISCARDED, EventState.QUARANTINED, EventState.RETRYING}
)


async def list_events(
    connection: Connection,
    *,
    state: str | None,
    event_type: str | None,
    since: datetime | None,
    after: tuple[datetime, str] | None,
    limit: int,
    error_class: str | None = None,
) -> list[asyncpg.Record]:
    """Return a page of events with their payloads, newest first."""
    moment, event_id = after or (None, None)
    query = QUERIES.list_in_rare_state if state in _RARE else QUERIES.list_events
    return await connection.fetch(
        query, state, event_type, since, moment, event_id, limit, error_class
    )


async def show_event(connection: Connection, event_id: str) -> list[asyncpg.Record]:
    """Return every stored event with this id (one for each account and mode)."""
    return await connection.fetch(QUERIES.show_event, event_id)


async def select_for_replay(
    connection: Connection,
    wanted: EventFilter,
    *,
    until: datetime,
    after: Place | None,
    limit: int,
) -> list[Place]:
    """Return the next events that match a filter and arrived until a moment, oldest first."""
    query = QUERIES.select_rare_for_replay if wanted.state in _RARE else QUERIES.select_for_replay
    rows = await connection.fetch(
        query,
        wanted.state,
        wanted.type,
        wanted.since,
        wanted.error_class,
        until,
        after.received_at if after else None,
        after.id if after else None,
        limit,
    )
    return [Place(row["received_at"], row["id"]) for row in rows]


async def still_dead(
    connection: Connection, ids: Sequence[str], *, event_type: str, error_class: str
) -> list[str]:
    """Return those of the ids that are dead letters of this cause, the oldest first."""
    rows = await connection.fetch(QUERIES.still_dead, list(ids), event_type, error_class)
    return list(dict.fromkeys(row["id"] for row in rows))


async def unknown(connection: Connection, ids: Sequence[str]) -> list[str]:
    """Return the ids that no event has, in their order."""
    known = {row["id"] for row in await connection.fetch(QUERIES.known, list(ids))}
    return [event_id for event_id in ids if event_id not in known]


async def stored(
    connection: Connection, ids: Sequence[str], *, livemode: bool, accounts: Iterable[str]
) -> list[asyncpg.Record]:
    """Return events as they are stored, the oldest first.

    Those of another mode or account are skipped.
    """
    return await connection.fetch(QUERIES.stored, list(ids), livemode, list(accounts))


async def discard(
    connection: Connection, ids: Sequence[str], reason: str, *, still: EventFilter | None = None
) -> list[str]:
    """Discard events permanently; return the ids of those that could be discarded.

    `still`: only those that are in its state, with its error class, once they are locked.
    """
    state, error_class = (None, None) if still is None else (still.state, still.error_class)
    rows = await connection.fetch(QUERIES.discard, list(ids), reason, state, error_class)
    return [row["id"] for row in rows]


async def causes(connection: Connection, *, count_max: int) -> list[Cause]:
    """Return the dead letters by type and error class; a group counts up to `count_max`."""
    rows = await connection.fetch(QUERIES.causes, count_max, CAUSES_MAX)
    return [
        Cause(
            type=row["type"],
            error_class=row["error_class"],
            events=row["events"],
            is_exact=row["events"] < count_max,
            first_at=row["first_at"],
            last_at=row["last_at"],
            last_id=row["last_id"],
            last_error=row["last_error"],
        )
        for row in rows
    ]


async def paused_types(connection: Connection) -> list[asyncpg.Record]:
    """Return the types that are paused now: `event_type`, `failures_in_row`, `paused_until`."""
    return await connection.fetch(QUERIES.paused_types)
