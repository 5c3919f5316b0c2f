"""prepaid messages: list, show, discard; the replay is in message_replay.py."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import msgspec
import typer

from cli.actor import current_actor
from cli.database import database_url, transaction
from cli.output import AsJson, cell, emit, run, table
from cli.paging import past_moment
from cli.reasons import RequiredReason
from shared.access import service as audit
from shared.counts import counted
from shared.db.pool import create_pool
from shared.errors import NotFoundError
from shared.organizations import service as organizations
from shared.outbound import service, store
from shared.outbound.model import MessageFilter, MessageState, MessageType
from shared.outbound.rules import public_id, read_message_id
from shared.replay.discards import Discarded
from shared.replay.messages import discard as discard_messages

if TYPE_CHECKING:
    from shared.db.pool import Connection

app = typer.Typer(no_args_is_help=True, help="Outbound messages to your app, and dead letters.")
COLUMNS = ("id", "type", "state", "attempts", "lastStatus", "createdAt", "url", "error")
PAGE_ROWS_MAX = 1000


def message_id_of(text: str) -> UUID:
    """Parse the id of a message; raise BadParameter."""
    message_id = read_message_id(text)
    if message_id is None:
        raise typer.BadParameter("must be msg_… or a UUID")
    return message_id


MessageId = Annotated[UUID, typer.Argument(metavar="ID", parser=message_id_of)]
State = Annotated[MessageState | None, typer.Option(help="Only messages in this state.")]
Type = Annotated[MessageType | None, typer.Option("--type", help="Only messages of this type.")]
Endpoint = Annotated[
    UUID | None, typer.Option(metavar="ID", help="Only messages to this endpoint.")
]
Since = Annotated[
    datetime | None,
    typer.Option(
        parser=past_moment,
        metavar="D",
        help="Only messages created since then: 30m, 24h, 7d or ISO 8601.",
    ),
]
OrganizationOf = Annotated[
    str | None,
    typer.Option("--organization", metavar="ID", help="Only of this organization: id or slug."),
]


@app.command("list")
def list_(
    state: State = None,
    message_type: Type = None,
    limit: Annotated[int, typer.Option(min=1, max=PAGE_ROWS_MAX)] = 50,
    as_json: AsJson = False,
) -> None:
    """List messages, newest first, one line for each endpoint."""

    async def work() -> list[dict[str, Any]]:
        async with transaction() as connection:
            rows = await store.list_messages(
                connection, state=state, message_type=message_type, limit=limit
            )
        return [_summary(row) for row in rows]

    emit(
        {"messages": run(work())},
        as_json=as_json,
        human=lambda document: table(
            COLUMNS,
            [[row[c] for c in COLUMNS] for row in document["messages"]],
            empty="no messages",
        ),
    )


@app.command()
def show(message_id: MessageId, as_json: AsJson = False) -> None:
    """Show a message with its state, its errors and its body as sent."""

    async def work() -> list[dict[str, Any]]:
        async with transaction() as connection:
            rows = await store.show_message(connection, message_id)
        if not rows:
            raise NotFoundError(f"There is no message {public_id(message_id)}.")
        return [
            _summary(row)
            | {
                "organizationId": str(row["organization_id"]),
                "discardReason": row["discard_reason"],
                "replayedAt": row["replayed_at"],
                "settledAt": row["settled_at"],
                "nextAttemptAt": row["available_at"] if row["settled_at"] is None else None,
                "payload": msgspec.Raw(row["payload"].encode()),
            }
            for row in rows
        ]

    emit({"messages": run(work())}, as_json=as_json, human=_show_human)


def _show_human(document: dict[str, Any]) -> str:
    lines = []
    for message in document["messages"]:
        fields = {k: v for k, v in message.items() if v is not None and k != "payload"}
        lines += [f"{name:16}{cell(value)}" for name, value in fields.items()] + [""]
    # The body is the same for every endpoint.
    body = document["messages"][0]["payload"]
    return "\n".join([*lines, msgspec.json.format(bytes(body), indent=2).decode()])


@app.command()
def discard(
    reason: RequiredReason,
    message_id: Annotated[UUID | None, typer.Argument(metavar="[ID]", parser=message_id_of)] = None,
    state: State = None,
    message_type: Type = None,
    endpoint: Endpoint = None,
    organization: OrganizationOf = None,
    since: Since = None,
    as_json: AsJson = False,
) -> None:
    """Discard a message for the endpoints to which it was not delivered, or all of a filter.

    The error of each stays.
    """
    filters = (state, message_type, endpoint, organization, since)
    is_filtered = any(value is not None for value in filters)
    if (message_id is not None) == is_filtered:
        raise typer.BadParameter("name a message, or select messages, such as --state dead")
    if message_id is not None:
        name = public_id(message_id)
        run(_discard_named(message_id, reason))
        one = {"id": name, "state": "discarded", "reason": reason}
        emit(one, as_json=as_json, human=lambda _: f"discarded {name}")
        return
    wanted = MessageFilter(
        state=state or MessageState.DEAD, type=message_type, since=since, endpoint_id=endpoint
    )
    found = run(_discard_all(wanted, organization, reason))
    document = {
        "discarded": found.count,
        "ids": found.ids,
        "state": "discarded",
        "reason": reason,
    }
    emit(document, as_json=as_json, human=lambda _: f"discarded {counted(found.count, 'message')}")


async def of_organization(
    connection: Connection, wanted: MessageFilter, organization: str | None
) -> MessageFilter:
    """Return a filter limited to an organization, by its id or slug; raise NotFoundError."""
    if organization is None:
        return wanted
    found = await organizations.find(connection, organization)
    return msgspec.structs.replace(wanted, organization_id=found.id)


async def _discard_named(message_id: UUID, reason: str) -> None:
    async with transaction() as connection:
        rows = await service.discard(connection, message_id, reason)
        await audit.record(
            connection,
            actor=await current_actor(connection),
            action="messages.discard",
            subject=public_id(message_id),
            organization_id=rows[0]["organization_id"],
            reason=reason,
        )


async def _discard_all(wanted: MessageFilter, organization: str | None, reason: str) -> Discarded:
    async with create_pool(database_url(), size=1, application_name="prepaid-cli") as pool:
        async with pool.acquire() as connection:
            actor = await current_actor(connection)
            wanted = await of_organization(connection, wanted, organization)
        return await discard_messages(pool, wanted, actor=actor, reason=reason)


def _summary(row: Any) -> dict[str, Any]:
    return {
        "id": public_id(row["id"]),
        "endpointId": str(row["endpoint_id"]),
        "url": row["url"],
        "type": row["type"],
        "state": row["state"],
        "attempts": row["attempts"],
        "lastStatus": row["last_status"],
        "error": row["reason"],
        "createdAt": row["created_at"],
    }
