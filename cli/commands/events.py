"""prepaid events: list, show, causes, discard; the replay is in event_replay.py."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
import typer

from cli.actor import current_actor
from cli.database import database_url, transaction
from cli.output import AsJson, cell, emit, run, table
from cli.paging import cursor as cursor_after
from cli.paging import past_moment, read_cursor
from cli.reasons import RequiredReason
from shared.counts import counted
from shared.db.pool import create_pool
from shared.errors import NotFoundError
from shared.inbox.admin import store
from shared.inbox.admin.model import Cause, EventFilter
from shared.inbox.model import EventState
from shared.inbox.rules import without_client_secrets
from shared.replay import dead_letters
from shared.replay.dead_letters import EventSummary
from shared.replay.discards import Discarded
from shared.replay.next_steps import NextStep, next_step

app = typer.Typer(no_args_is_help=True, help="Stripe events: the inbox and its dead letters.")
COLUMNS = {
    "id": "id",
    "type": "type",
    "state": "state",
    "attempts": "attempts",
    "receivedAt": "received",
    "organization": "organization",
    "customerId": "customer",
    "amount": "amount",
    "currency": "currency",
    "paymentIntentId": "payment",
    "error": "error",
}
CAUSE_COLUMNS = ("events", "type", "errorClass", "firstAt", "lastAt", "lastId", "nextStep")
PAGE_ROWS_MAX = 1000


State = Annotated[EventState | None, typer.Option(help="Only events in this state.")]
Type = Annotated[str | None, typer.Option("--type", help="Only events of this type.")]
ErrorClass = Annotated[
    str | None, typer.Option(help="Only events with this error class, such as StripeFailedError.")
]
Since = Annotated[
    datetime | None,
    typer.Option(
        parser=past_moment,
        metavar="D",
        help="Only events received since then: 30m, 24h, 7d or ISO 8601.",
    ),
]


@app.command("list")
def list_(
    state: State = None,
    event_type: Type = None,
    since: Since = None,
    error_class: ErrorClass = None,
    limit: Annotated[int, typer.Option(min=1, max=PAGE_ROWS_MAX)] = 50,
    cursor: Annotated[str | None, typer.Option(help="The nextCursor of the previous page.")] = None,
    as_json: AsJson = False,
) -> None:
    """List events with their money, newest first."""
    after = read_cursor(cursor) if cursor else None

    async def work() -> dict[str, Any]:
        async with transaction() as connection:
            page = await dead_letters.list_events(
                connection,
                state=state,
                event_type=event_type,
                since=since,
                error_class=error_class,
                after=after,
                limit=limit,
            )
        return {
            "events": [_summary(event) for event in page.events],
            "nextCursor": cursor_after(*page.after) if page.after else None,
        }

    emit(run(work()), as_json=as_json, human=_list_human)


def _summary(event: EventSummary) -> dict[str, Any]:
    return {
        "id": event.id,
        "type": event.type,
        "state": event.state,
        "attempts": event.attempts,
        "error": event.error,
        "receivedAt": event.received_at,
        "errorClass": event.error_class,
        "discardReason": event.discard_reason,
        "organization": event.organization,
        "customerId": event.money.customer_id,
        "amount": event.money.amount,
        "currency": event.money.currency,
        "paymentIntentId": event.money.payment_intent_id,
        **_next_step(event.next_step),
    }


def _next_step(step: NextStep | None) -> dict[str, str | None]:
    return {
        "nextStep": step.sentence if step else None,
        "runbook": step.link if step else None,
    }


def _list_human(document: dict[str, Any]) -> str:
    rows = [[row[name] for name in COLUMNS] for row in document["events"]]
    return table(tuple(COLUMNS.values()), rows, empty="no events")


@app.command()
def show(
    event_id: Annotated[str, typer.Argument(metavar="ID")],
    payload: Annotated[
        bool, typer.Option("--payload", help="The stored payload too: personal data.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show an event with its state, its money, its errors and what to do next."""

    async def work() -> list[dict[str, Any]]:
        async with transaction() as connection:
            rows = await store.show_event(connection, event_id)
        if not rows:
            raise NotFoundError(f"There is no event {event_id!r}.")
        return [_details(row, payload=payload) for row in rows]

    emit({"events": run(work())}, as_json=as_json, human=_show_human)


def _details(row: Any, *, payload: bool) -> dict[str, Any]:
    open_ = row["settled_at"] is None
    body = without_client_secrets(row["payload"]).encode()
    return _summary(dead_letters.summary(row)) | {
        "lane": row["lane"] if open_ else None,
        "leasesLost": row["leases_lost"],
        "errorTrace": row["error_trace"],
        "settledAt": row["settled_at"],
        "nextAttemptAt": row["available_at"] if open_ else None,
        "account": row["account"] or None,
        "livemode": row["livemode"],
        "organizationId": row["organization_id"],
        "requestId": row["request_id"],
        "payloadForgottenAt": row["payload_forgotten_at"],
        **({"payload": msgspec.Raw(body)} if payload else {}),
    }


def _show_human(document: dict[str, Any]) -> str:
    lines = []
    for event in document["events"]:
        fields = {
            k: v for k, v in event.items() if v is not None and k not in {"payload", "errorTrace"}
        }
        lines += [f"{name:18}{cell(value)}" for name, value in fields.items()]
        if event["errorTrace"]:
            lines += ["", event["errorTrace"].rstrip()]
        if "payload" in event:
            lines += ["", msgspec.json.format(bytes(event["payload"]), indent=2).decode()]
    return "\n".join(lines)


@app.command()
def causes(
    exact: Annotated[
        bool, typer.Option("--exact", help="Count every event, however many there are.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Group the dead letters by type and error class, with what to do about each."""

    async def work() -> list[dict[str, Any]]:
        async with transaction() as connection:
            found = await dead_letters.causes(connection, exact=exact)
        return [_cause(cause) for cause in found]

    emit({"causes": run(work())}, as_json=as_json, human=_causes_human)


def _cause(cause: Cause) -> dict[str, Any]:
    return {
        "type": cause.type,
        "errorClass": cause.error_class,
        "events": cause.events,
        "exact": cause.is_exact,
        "firstAt": cause.first_at,
        "lastAt": cause.last_at,
        "lastId": cause.last_id,
        "lastError": cause.last_error,
        **_next_step(next_step(cause.error_class)),
    }


def _causes_human(document: dict[str, Any]) -> str:
    rows = []
    for cause in document["causes"]:
        count = str(cause["events"]) if cause["exact"] else f"{cause['events']}+"
        rows.append([count, *(cause[name] for name in CAUSE_COLUMNS[1:])])
    return table(CAUSE_COLUMNS, rows, empty="no dead letters")


@app.command()
def discard(
    reason: RequiredReason,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID…]")] = None,
    state: State = None,
    event_type: Type = None,
    since: Since = None,
    error_class: ErrorClass = None,
    as_json: AsJson = False,
) -> None:
    """Close events for good: the named ones, or all that match the filters (dead by default).

    An applied event has nothing left to discard. The error of each event stays.
    """
    selection = select(
        ids, state=state, event_type=event_type, since=since, error_class=error_class
    )

    async def work() -> Discarded:
        async with create_pool(database_url(), size=1, application_name="prepaid-cli") as pool:
            async with pool.acquire() as connection:
                actor = await current_actor(connection)
            return await dead_letters.discard(pool, selection, actor=actor, reason=reason)

    found = run(work())
    document = {"discarded": found.count, "ids": found.ids, "state": "discarded", "reason": reason}
    if ids and len(ids) == 1:
        document["id"] = ids[0]
    emit(
        document,
        as_json=as_json,
        human=lambda _: (
            f"discarded {' '.join(ids)}" if ids else f"discarded {counted(found.count, 'event')}"
        ),
    )


def select(
    ids: list[str] | None,
    *,
    state: EventState | None,
    event_type: str | None,
    since: datetime | None,
    error_class: str | None,
) -> list[str] | EventFilter:
    """Return the named events, or a filter; raise BadParameter for both, and for neither."""
    filters = (state, event_type, since, error_class)
    is_filtered = any(value is not None for value in filters)
    if ids and is_filtered:
        raise typer.BadParameter("name event ids, or select events by filters: not both")
    if ids:
        return ids
    if not is_filtered:
        raise typer.BadParameter("name event ids, or select events, such as --state dead")
    return EventFilter(
        state=state or EventState.DEAD, type=event_type, since=since, error_class=error_class
    )
