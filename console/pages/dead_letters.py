"""Dead letters by cause: how many, since when, what to do, and a replay or discard of them all."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlencode

from aiohttp import web

from console import replays
from console.framework.context import Visit
from console.framework.page import get, post
from shared.errors import ConflictError, NotFoundError, ValidationError
from shared.inbox.admin import store
from shared.inbox.admin.model import Cause, EventFilter
from shared.inbox.model import EventState
from shared.replay import dead_letters
from shared.replay.next_steps import next_step

LIST = "/console/dead-letters"
# A page previews and replays so many events of a cause, the oldest first.
REPLAYED_EVENTS_MAX = 200


async def show(visit: Visit) -> web.Response:
    """List the causes of dead letters."""
    async with visit.reading() as connection:
        causes = await dead_letters.causes(connection)
    shown = [
        {"cause": cause, "next_step": next_step(cause.error_class), "query": _query(cause)}
        for cause in causes
    ]
    return visit.render("dead_letters.html", title="Dead letters", causes=shown)


async def show_cause(visit: Visit) -> web.Response:
    """Preview a replay of the oldest dead letters of a cause."""
    visit.check_operator()
    cause, ids = await _find(visit, _filter(visit.query))
    report = await replays.preview(visit, ids)
    return visit.render(
        "dead_letter_cause.html",
        title=f"{cause.error_class}: {cause.type}",
        breadcrumbs=[("Dead letters", LIST)],
        cause=cause,
        next_step=next_step(cause.error_class),
        ids=ids,
        report=report,
        fields={"type": cause.type, "error_class": cause.error_class},
        replayed_max=REPLAYED_EVENTS_MAX,
    )


async def replay(visit: Visit) -> web.Response:
    """Replay the events that were previewed, where they are still dead letters of the cause."""
    reason = visit.reason()
    replays.check_idle(visit)  # a running one has claimed the events: they are not dead meanwhile
    ids = await _still_dead(visit)
    report = await replays.replay(visit, ids, reason)
    kind = "failed" if report["failed"] else "done"
    return visit.redirect(LIST, f"Replayed {len(ids)}: {replays.counts(report)}", kind=kind)


async def discard(visit: Visit) -> web.Response:
    """Discard every dead letter of a cause."""
    found = await dead_letters.discard(
        visit.console.pool, _filter(visit.form), actor=visit.actor, reason=visit.reason()
    )
    return visit.redirect(LIST, f"{found.count} discarded.")


async def _find(visit: Visit, wanted: EventFilter) -> tuple[Cause, list[str]]:
    """Return a cause and its oldest events; raise NotFoundError where it has none."""
    async with visit.reading() as connection:
        places = await store.select_for_replay(
            connection, wanted, until=datetime.now(UTC), after=None, limit=REPLAYED_EVENTS_MAX
        )
        causes = await dead_letters.causes(connection)
    for cause in causes:
        if places and (cause.type, cause.error_class) == (wanted.type, wanted.error_class):
            return cause, list(dict.fromkeys(place.id for place in places))
    raise NotFoundError("There are no dead letters of this cause.")


async def _still_dead(visit: Visit) -> list[str]:
    """Return which of the form's events are dead letters of its cause; raise ConflictError."""
    previewed = visit.form.get("events", "").split()
    if len(previewed) > REPLAYED_EVENTS_MAX:
        raise ValidationError(f"A page replays at most {REPLAYED_EVENTS_MAX} events.")
    async with visit.reading() as connection:
        ids = await store.still_dead(
            connection,
            previewed,
            event_type=visit.form.get("type", ""),
            error_class=visit.form.get("error_class", ""),
        )
    if not ids:
        raise ConflictError(
            "None of the previewed events is a dead letter of this cause any more. Open the cause"
            " again for the others."
        )
    return ids


def _filter(fields: Mapping[str, str]) -> EventFilter:
    return EventFilter(
        state=EventState.DEAD,
        type=fields.get("type", ""),
        error_class=fields.get("error_class", ""),
    )


def _query(cause: Cause) -> str:
    return urlencode({"type": cause.type, "error_class": cause.error_class})


PAGES = (
    get("/dead-letters", show),
    get("/dead-letters/cause", show_cause),
    post("/dead-letters/replay", replay),
    post("/dead-letters/discard", discard),
)
