"""Stripe's events: the list, and one event with its money, its errors and its history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from aiohttp import web

from console.framework import filtering, paging, payloads
from console.framework.context import Visit
from console.framework.page import get
from shared.access import service as audit
from shared.db.queries import beside
from shared.errors import NotFoundError
from shared.inbox.model import EventState
from shared.organizations import service as organizations
from shared.replay import dead_letters
from shared.replay.dead_letters import EventSummary

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__, "events.sql")
LIST = "/console/events"
FILTERS = ("state", "type", "since", "organization", "object")
# A page of the list looks at no more events, and reads the money of no longer payload.
SCANNED_ROWS_MAX = 2_000
LISTED_PAYLOAD_BYTES_MAX = 100_000
ACCOUNTS_MAX = 20
HISTORY_ROWS_MAX = 50
RARE_STATES = frozenset(
    {
        EventState.DEAD,
        EventState.DISCARDED,
        EventState.QUARANTINED,
        EventState.RETRYING,
    }
)
OPEN_STATES = frozenset({EventState.RECEIVED, EventState.RETRYING})
# What may be discarded: an applied event has nothing left to discard.
CLOSABLE_STATES = frozenset(EventState) - {EventState.APPLIED, EventState.DISCARDED}


@dataclass(frozen=True, slots=True, kw_only=True)
class EventQuery:
    """What a list of events is filtered by. `object_id`: an id that occurs in the payload."""

    state: EventState | None
    event_type: str | None
    since: datetime | None
    organization_id: UUID | None
    organization: str | None
    object_id: str | None
    after: tuple[Any, ...] | None


@dataclass(frozen=True, slots=True)
class Step:
    """A step in the history of an event."""

    at: datetime
    what: str
    actor: str = ""
    reason: str | None = None


async def show_list(visit: Visit) -> web.Response:
    """List events, newest first."""
    async with visit.reading() as connection:
        wanted = await _wanted(connection, visit)
        rows = await _list(connection, wanted)
        end = None if len(rows) > paging.ROWS_MAX else await _scan_end(connection, wanted)
    page = paging.rows(
        [dead_letters.summary(row) for row in rows],
        path=LIST,
        query=visit.query,
        position=lambda event: (event.received_at, event.id),
    )
    more = None
    if end is not None:
        cursor = {"cursor": paging.encode(end["received_at"], end["id"])}
        more = paging.address(LIST, {**{k: v for k, v in visit.query.items() if v}, **cursor})
    return visit.render(
        "events.html",
        title="Events",
        page=page,
        query=filtering.values(visit.query, *FILTERS),
        states=list(EventState),
        since_hint=filtering.SINCE_HINT,
        scanned=SCANNED_ROWS_MAX,
        scanned_until=end and end["received_at"],
        more=more,
    )


async def _wanted(connection: Connection, visit: Visit) -> EventQuery:
    reference = filtering.text(visit.query, "organization")
    organization = await organizations.find(connection, reference) if reference else None
    object_id = filtering.text(visit.query, "object")
    return EventQuery(
        state=filtering.choice(visit.query, "state", EventState),
        event_type=filtering.text(visit.query, "type"),
        since=filtering.since(visit.query, visit.now),
        organization_id=organization.id if organization else None,
        organization=f'"{reference}"' if reference else None,
        object_id=f'"{object_id}"' if object_id else None,
        after=paging.decode(visit.query, datetime, str),
    )


async def _list(connection: Connection, wanted: EventQuery) -> list[asyncpg.Record]:
    query = QUERIES.list_in_rare_state if wanted.state in RARE_STATES else QUERIES.list_events
    return await connection.fetch(
        query,
        wanted.state,
        wanted.event_type,
        wanted.since,
        wanted.organization_id,
        wanted.organization,
        wanted.object_id,
        *(wanted.after or (None, None)),
        SCANNED_ROWS_MAX,
        paging.ROWS_MAX + 1,
        LISTED_PAYLOAD_BYTES_MAX,
    )


async def _scan_end(connection: Connection, wanted: EventQuery) -> asyncpg.Record | None:
    values = (wanted.since, *(wanted.after or (None, None)), SCANNED_ROWS_MAX - 1)
    if wanted.state in RARE_STATES:
        return await connection.fetchrow(QUERIES.scan_end_in_rare_state, *values, wanted.state)
    return await connection.fetchrow(QUERIES.scan_end, *values)


async def show(visit: Visit) -> web.Response:
    """Show an event, once for each account and mode that it was delivered for."""
    event_id = visit.path["event"]
    async with visit.reading() as connection:
        rows = await connection.fetch(
            QUERIES.event,
            event_id,
            payloads.PAYLOAD_BYTES_MAX,
            payloads.TEXT_LENGTH_MAX,
            ACCOUNTS_MAX,
        )
        if not rows:
            raise NotFoundError(f"There is no event {event_id!r}.")
        acts = await audit.acts_on(connection, event_id, rows_max=HISTORY_ROWS_MAX)
        replays = await connection.fetch(QUERIES.replays, event_id, HISTORY_ROWS_MAX)
    return visit.render(
        "event.html",
        title=event_id,
        breadcrumbs=[("Events", LIST)],
        event_id=event_id,
        events=[_shown(row, acts, replays) for row in rows],
        closable=any(EventState(row["state"]) in CLOSABLE_STATES for row in rows),
    )


def _shown(
    row: asyncpg.Record, acts: Sequence[asyncpg.Record], replays: Sequence[asyncpg.Record]
) -> Mapping[str, Any]:
    payload, text = payloads.read(row["payload"], row["payload_length"])
    summary: EventSummary = dead_letters.summary(row)
    return {
        "row": row,
        "summary": summary,
        "is_open": summary.state in OPEN_STATES,
        "payload": payload,
        "text": text,
        "history": _history(row, acts, replays),
    }


def _history(
    row: asyncpg.Record, acts: Sequence[asyncpg.Record], replays: Sequence[asyncpg.Record]
) -> list[Step]:
    """Return what happened to an event, the oldest first."""
    steps = [
        Step(row["stripe_created_at"], "created at Stripe"),
        Step(row["received_at"], "received"),
        *(Step(each["at"], each["action"], each["actor"], each["reason"]) for each in acts),
        *(
            Step(each["started_at"], f"replay {each['state']}", each["actor"], each["reason"])
            for each in replays
        ),
    ]
    if row["settled_at"] is not None:
        steps.append(Step(row["settled_at"], row["state"]))
    elif row["payload_forgotten_at"] is None:
        what = "lease of a worker ends" if row["is_leased"] else "next attempt"
        steps.append(Step(row["available_at"], what))
    if row["payload_forgotten_at"] is not None:
        steps.append(Step(row["payload_forgotten_at"], "payload deleted"))
    return sorted(steps, key=lambda step: step.at)


PAGES = (
    get("/events", show_list),
    get("/events/{event}", show),
)
