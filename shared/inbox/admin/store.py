"""SQL for operators: list, show, select for a replay and discard events."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from shared.db.queries import beside
from shared.inbox.model import EventState

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__)

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
) -> list[asyncpg.Record]:
    """Return a page of events, newest first."""
    moment, event_id = after or (None, None)
    query = QUERIES.list_in_rare_state if state in _RARE else QUERIES.list_events
    return await connection.fetch(query, state, event_type, since, moment, event_id, limit)


async def show_event(connection: Connection, event_id: str) -> list[asyncpg.Record]:
    """Return every stored event with this id (one for each account and mode)."""
    return await connection.fetch(QUERIES.show_event, event_id)


async def select_for_replay(
    connection: Connection,
    *,
    state: str,
    event_type: str | None,
    since: datetime | None,
    limit: int,
) -> list[str]:
    """Return the ids that match a replay's filters, oldest first."""
    query = QUERIES.select_rare_for_replay if state in _RARE else QUERIES.select_for_replay
    rows = await connection.fetch(query, state, event_type, since, limit)
    return [row["id"] for row in rows]


async def discard(connection: Connection, event_id: str, reason: str) -> bool:
    """Discard an event permanently; False where no event could be discarded."""
    return bool(await connection.fetch(QUERIES.discard, event_id, reason))
