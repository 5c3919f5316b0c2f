"""The replay of one event: what it would do, beside the forms to replay or discard it."""

from __future__ import annotations

from aiohttp import web

from console import replays
from console.framework.context import Visit
from console.framework.formatting import segment
from console.framework.page import get, post
from console.pages.events import CLOSABLE_STATES, LIST
from shared.errors import NotFoundError
from shared.inbox.admin import store
from shared.inbox.model import EventState
from shared.replay import dead_letters


async def show(visit: Visit) -> web.Response:
    """Preview a replay of one event."""
    visit.check_operator()
    event_id, states = await _event(visit)
    report = await replays.preview(visit, [event_id])
    return visit.render(
        "event_replay.html",
        title=f"Replay {event_id}",
        breadcrumbs=[("Events", LIST), (event_id, _page(event_id))],
        event_id=event_id,
        report=report,
        closable=bool(states & CLOSABLE_STATES),
    )


async def replay(visit: Visit) -> web.Response:
    """Replay one event."""
    reason = visit.reason()
    event_id, _ = await _event(visit)
    report = await replays.replay(visit, [event_id], reason)
    kind = "failed" if report["failed"] else "done"
    return visit.redirect(_page(event_id), f"Replayed: {replays.counts(report)}", kind=kind)


async def discard(visit: Visit) -> web.Response:
    """Discard one event for good."""
    event_id = visit.path["event"]
    await dead_letters.discard(
        visit.console.pool, [event_id], actor=visit.actor, reason=visit.reason()
    )
    return visit.redirect(_page(event_id), f"{event_id} is discarded.")


async def _event(visit: Visit) -> tuple[str, set[EventState]]:
    """Return the id of the path's event and its states, one for each account and mode."""
    event_id = visit.path["event"]
    async with visit.reading() as connection:
        rows = await store.show_event(connection, event_id)
    if not rows:
        raise NotFoundError(f"There is no event {event_id!r}.")
    return event_id, {EventState(row["state"]) for row in rows}


def _page(event_id: str) -> str:
    return f"{LIST}/{segment(event_id)}"


PAGES = (
    get("/events/{event}/replay", show),
    post("/events/{event}/replay", replay),
    post("/events/{event}/discard", discard),
)
