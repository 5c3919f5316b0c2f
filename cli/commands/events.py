"""prepaid events: list, show, replay, discard."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import uuid4

import msgspec
import typer

from cli.actor import current_actor
from cli.database import database_url, transaction
from cli.environment import load_settings
from cli.output import EXIT_REFUSED, AsJson, emit, run, table
from cli.paging import cursor as cursor_after
from cli.paging import moment, read_cursor
from shared.access import service as audit
from shared.db.pool import create_pool
from shared.errors import ConflictError, NotFoundError, PrepaidError
from shared.events.replay import Mode, Replayer, ReplayReport
from shared.events.service import Applier
from shared.inbox.admin import store
from shared.inbox.model import EventState
from shared.inbox.rules import without_client_secrets
from shared.payments.client import stripe_client
from shared.payments.lookup import StripeLookup
from shared.payments.model import SaleTerms

app = typer.Typer(no_args_is_help=True, help="Stripe events: the inbox and its dead letters.")
COLUMNS = ("id", "type", "state", "attempts", "receivedAt", "error")
PAGE_ROWS_MAX = 1000
REPLAY_ROWS_MAX = 100_000


State = Annotated[EventState | None, typer.Option(help="Only events in this state.")]
Type = Annotated[str | None, typer.Option("--type", help="Only events of this type.")]
Since = Annotated[
    datetime | None,
    typer.Option(
        parser=moment,
        metavar="D",
        help="Only events received since then: 30m, 24h, 7d or ISO 8601.",
    ),
]


@app.command("list")
def list_(
    state: State = None,
    event_type: Type = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(min=1, max=PAGE_ROWS_MAX)] = 50,
    cursor: Annotated[str | None, typer.Option(help="The nextCursor of the previous page.")] = None,
    as_json: AsJson = False,
) -> None:
    """List events, newest first."""
    after = read_cursor(cursor) if cursor else None

    async def work() -> dict[str, Any]:
        async with transaction() as connection:
            rows = await store.list_events(
                connection,
                state=state,
                event_type=event_type,
                since=since,
                after=after,
                limit=limit + 1,
            )
        page = rows[:limit]
        more = len(rows) > limit
        return {
            "events": [
                {
                    "id": row["id"],
                    "type": row["type"],
                    "state": row["state"],
                    "attempts": row["attempts"],
                    "error": row["reason"],
                    "receivedAt": row["received_at"],
                }
                for row in page
            ],
            "nextCursor": cursor_after(page[-1]["received_at"], page[-1]["id"]) if more else None,
        }

    emit(
        run(work()),
        as_json=as_json,
        human=lambda document: table(
            COLUMNS, [[row[c] for c in COLUMNS] for row in document["events"]], empty="no events"
        ),
    )


@app.command()
def show(event_id: Annotated[str, typer.Argument(metavar="ID")], as_json: AsJson = False) -> None:
    """Show an event with its state, its errors and its stored payload."""

    async def work() -> list[dict[str, Any]]:
        async with transaction() as connection:
            rows = await store.show_event(connection, event_id)
        if not rows:
            raise NotFoundError(f"There is no event {event_id!r}.")
        return [
            {
                "id": row["id"],
                "type": row["type"],
                "state": row["state"],
                "attempts": row["attempts"],
                "lane": row["lane"] if row["settled_at"] is None else None,
                "leasesLost": row["leases_lost"],
                "error": row["reason"],
                "errorClass": row["error_class"],
                "errorTrace": row["error_trace"],
                "receivedAt": row["received_at"],
                "settledAt": row["settled_at"],
                "nextAttemptAt": row["available_at"] if row["settled_at"] is None else None,
                "account": row["account"] or None,
                "livemode": row["livemode"],
                "organizationId": row["organization_id"],
                "requestId": row["request_id"],
                "payloadForgottenAt": row["payload_forgotten_at"],
                "payload": msgspec.Raw(without_client_secrets(row["payload"]).encode()),
            }
            for row in rows
        ]

    emit({"events": run(work())}, as_json=as_json, human=_show_human)


def _show_human(document: dict[str, Any]) -> str:
    lines = []
    for event in document["events"]:
        fields = {
            k: v for k, v in event.items() if v is not None and k not in {"payload", "errorTrace"}
        }
        lines += [f"{name:16}{value}" for name, value in fields.items()]
        if event["errorTrace"]:
            lines += ["", event["errorTrace"].rstrip()]
        lines += ["", msgspec.json.format(bytes(event["payload"]), indent=2).decode()]
    return "\n".join(lines)


@app.command()
def replay(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID…]")] = None,
    state: State = None,
    event_type: Type = None,
    since: Since = None,
    reason: Annotated[str | None, typer.Option(help="The reason, for the audit log.")] = None,
    as_json: AsJson = False,
) -> None:
    """Apply events again: the named ones, or all that match the filters (dead by default)."""
    if not ids and state is None and event_type is None and since is None:
        raise typer.BadParameter("name event ids, or select events, such as --state dead")

    async def work() -> ReplayReport:
        async with create_pool(database_url(), size=2, application_name="prepaid-cli") as pool:
            selected = list(ids or [])
            async with pool.acquire() as connection:
                if not selected:
                    selected = await store.select_for_replay(
                        connection,
                        state=state or EventState.DEAD,
                        event_type=event_type,
                        since=since,
                        limit=REPLAY_ROWS_MAX,
                    )
                elif missing := await _unknown(connection, selected):
                    raise NotFoundError(f"There is no event {missing[0]!r}.")
                actor = await current_actor(connection)
            settings = load_settings()
            async with stripe_client(settings.stripe_api_key, settings.stripe_api_base) as client:
                applier = Applier(pool, SaleTerms.of(settings), lookup=StripeLookup(client))
                return await Replayer(pool, applier, uuid4, Mode.of(settings)).replay(
                    selected, actor=actor, reason=reason
                )

    report = run(work())
    emit(report, as_json=as_json, human=_replay_human)
    if report["failed"]:
        raise typer.Exit(EXIT_REFUSED)


async def _unknown(connection: Any, ids: list[str]) -> list[str]:
    return [event_id for event_id in ids if not await store.show_event(connection, event_id)]


def _replay_human(report: dict[str, Any]) -> str:
    counts = ", ".join(
        f"{report[word]} {word}" for word in ("selected", "applied", "noop", "failed")
    )
    lines = [f"batch {report['batchId']}: {counts}"]
    lines += [f"  {f['id']} {f['state']}: {f['error']}" for f in report["failures"]]
    rows = [
        [diff["organizationId"], diff["before"], diff["after"], len(diff["transactions"])]
        for diff in report["diff"]
    ]
    if rows:
        lines.append(table(("organization", "before", "after", "transactions"), rows, empty=""))
    return "\n".join(lines)


@app.command()
def discard(
    event_id: Annotated[str, typer.Argument(metavar="ID")],
    reason: Annotated[str, typer.Option(help="The reason, for the audit log.")],
    as_json: AsJson = False,
) -> None:
    """Close an event for good. An applied event has nothing left to discard."""

    async def work() -> dict[str, Any]:
        async with transaction() as connection:
            if not await store.discard(connection, event_id, reason):
                raise await _cannot_discard(connection, event_id)
            await audit.record(
                connection,
                actor=await current_actor(connection),
                action="events.discard",
                subject=event_id,
                reason=reason,
            )
        return {"id": event_id, "state": "discarded", "reason": reason}

    emit(run(work()), as_json=as_json, human=lambda document: f"discarded {document['id']}")


async def _cannot_discard(connection: Any, event_id: str) -> PrepaidError:
    rows = await store.show_event(connection, event_id)
    if not rows:
        return NotFoundError(f"There is no event {event_id!r}.")
    return ConflictError(f"{event_id} is {rows[0]['state']}: there is nothing left to discard.")
