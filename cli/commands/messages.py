"""prepaid messages: list, show, replay, discard."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
import typer

from cli.actor import current_actor
from cli.database import transaction
from cli.output import AsJson, emit, run, table
from cli.reasons import Reason, RequiredReason
from shared.access import service as audit
from shared.errors import NotFoundError
from shared.ids import new_id
from shared.outbound import service, store
from shared.outbound.model import MessageState, MessageType
from shared.outbound.rules import public_id, read_message_id

app = typer.Typer(no_args_is_help=True, help="Outbound messages to your app, and dead letters.")
COLUMNS = ("id", "type", "state", "attempts", "lastStatus", "createdAt", "url", "error")
PAGE_ROWS_MAX = 1000


def _message_id(text: str) -> UUID:
    message_id = read_message_id(text)
    if message_id is None:
        raise typer.BadParameter("must be msg_… or a UUID")
    return message_id


MessageId = Annotated[UUID, typer.Argument(metavar="ID", parser=_message_id)]
State = Annotated[MessageState | None, typer.Option(help="Only messages in this state.")]
Type = Annotated[MessageType | None, typer.Option("--type", help="Only messages of this type.")]


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
        lines += [f"{name:16}{value}" for name, value in fields.items()] + [""]
    # The body is the same for every endpoint.
    body = document["messages"][0]["payload"]
    return "\n".join([*lines, msgspec.json.format(bytes(body), indent=2).decode()])


@app.command()
def replay(
    ids: Annotated[list[UUID] | None, typer.Argument(metavar="[ID…]", parser=_message_id)] = None,
    state: State = None,
    message_type: Type = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be sent again, and change nothing.")
    ] = False,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Send messages again: the named ones, or all that match the filters (dead by default).

    A worker sends them. A receiver recognizes a duplicate by its webhook-id.
    """
    if not ids and state is None and message_type is None:
        raise typer.BadParameter("name message ids, or select messages, such as --state dead")

    async def work() -> dict[str, Any]:
        batch_id = str(new_id())
        async with transaction() as connection:
            trial = connection.transaction()
            await trial.start()
            rows = await service.replay(
                connection, ids=ids or (), state=state, message_type=message_type
            )
            await (trial.rollback() if dry_run else trial.commit())
            replayed = sorted({public_id(row["id"]) for row in rows})
            if replayed and not dry_run:
                await audit.record(
                    connection,
                    actor=await current_actor(connection),
                    action="messages.replay",
                    subject=batch_id,
                    reason=reason,
                    details={"messages": replayed},
                )
        return {
            "batchId": None if dry_run else batch_id,
            "dryRun": dry_run,
            "replayed": replayed,
        }

    emit(run(work()), as_json=as_json, human=_replay_human)


def _replay_human(document: dict[str, Any]) -> str:
    replayed = document["replayed"]
    name = "dry run" if document["dryRun"] else f"batch {document['batchId']}"
    verb = "would" if document["dryRun"] else "will"
    return "\n".join([f"{name}: {len(replayed)} {verb} be sent again", *replayed])


@app.command()
def discard(
    message_id: MessageId,
    reason: RequiredReason,
    as_json: AsJson = False,
) -> None:
    """Discard a message for all endpoints to which it was not delivered."""

    async def work() -> dict[str, Any]:
        name = public_id(message_id)
        async with transaction() as connection:
            rows = await service.discard(connection, message_id, reason)
            await audit.record(
                connection,
                actor=await current_actor(connection),
                action="messages.discard",
                subject=name,
                organization_id=rows[0]["organization_id"],
                reason=reason,
            )
        return {"id": name, "state": "discarded", "reason": reason}

    emit(run(work()), as_json=as_json, human=lambda document: f"discarded {document['id']}")


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
