"""Outbound messages to the customer's app: the list, one message, replay and discard."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from aiohttp import web

from console import replays
from console.framework import filtering, paging, payloads
from console.framework.context import Visit
from console.framework.page import get, post
from shared.access import service as audit
from shared.db.queries import beside
from shared.errors import NotFoundError
from shared.outbound import service
from shared.outbound.model import MessageFilter, MessageState, MessageType
from shared.outbound.rules import public_id, read_message_id

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__, "messages.sql")
LIST = "/console/messages"
SCANNED_ROWS_MAX = 2_000
ENDPOINTS_MAX = 100
OPEN_STATES = frozenset({MessageState.PENDING, MessageState.DEAD})


async def show_list(visit: Visit) -> web.Response:
    """List messages, newest first, a row for each endpoint."""
    state = filtering.choice(visit.query, "state", MessageState)
    kind = filtering.choice(visit.query, "type", MessageType)
    after = paging.decode(visit.query, datetime, UUID, UUID) or (None, None, None)
    query = QUERIES.list_in_open_state if state in OPEN_STATES else QUERIES.list_messages
    async with visit.reading() as connection:
        owner = await filtering.organization_id(connection, visit.query)
        rows: Sequence[asyncpg.Record] = await connection.fetch(
            query,
            state,
            kind,
            owner,
            *after,
            SCANNED_ROWS_MAX,
            paging.ROWS_MAX + 1,
        )
    page = paging.rows(
        rows,
        path=LIST,
        query=visit.query,
        position=lambda row: (row["created_at"], row["id"], row["endpoint_id"]),
    )
    return visit.render(
        "messages.html",
        title="Messages",
        page=page,
        query=filtering.values(visit.query, "state", "type", "organization"),
        states=list(MessageState),
        types=list(MessageType),
        scanned=SCANNED_ROWS_MAX,
        public_id=public_id,
    )


async def show(visit: Visit) -> web.Response:
    """Show a message with its delivery to each endpoint."""
    async with visit.reading() as connection:
        rows = await _find(connection, visit)
    payload, text = payloads.read(rows[0]["payload"], rows[0]["payload_length"])
    return visit.render(
        "message.html",
        title=public_id(rows[0]["id"]),
        breadcrumbs=[("Messages", LIST)] if visit.organization_id is None else [],
        message=rows[0],
        deliveries=rows,
        payload=payload,
        text=text,
        may_discard=any(row["state"] in OPEN_STATES for row in rows),
    )


async def replay(visit: Visit) -> web.Response:
    """Send one message again to every endpoint that can receive it."""
    reason = visit.reason()
    async with visit.transaction() as connection:
        message = (await _find(connection, visit))[0]
        await service.replay(connection, message["id"])
        await _record(connection, visit, "messages.replay", message, reason)
    return visit.redirect(f"{LIST}/{message['id']}", "A worker sends it again.")


async def discard(visit: Visit) -> web.Response:
    """Discard one message for every endpoint that has not received it."""
    reason = visit.reason()
    async with visit.transaction() as connection:
        message = (await _find(connection, visit))[0]
        await service.discard(connection, message["id"], reason)
        await _record(connection, visit, "messages.discard", message, reason)
    return visit.redirect(f"{LIST}/{message['id']}", "The message is discarded.")


async def replay_dead(visit: Visit) -> web.Response:
    """Send the dead messages again: all, or those of a type or an organization."""
    reason = visit.reason()
    kind = filtering.choice(visit.form, "type", MessageType)
    async with visit.reading() as connection:
        owner = await filtering.organization_id(connection, visit.form)
    wanted = MessageFilter(type=kind, organization_id=owner)
    report = await replays.replay_messages(visit, wanted, reason)
    return visit.redirect(LIST, f"{report['applied']} will be sent again.")


async def _find(connection: Connection, visit: Visit) -> Sequence[Any]:
    """Return the rows of the path's message; raise NotFoundError."""
    message_id = read_message_id(visit.path["message"])
    rows: Sequence[Any] = []
    if message_id is not None:
        rows = await connection.fetch(
            QUERIES.message,
            message_id,
            payloads.PAYLOAD_BYTES_MAX,
            payloads.TEXT_LENGTH_MAX,
            ENDPOINTS_MAX,
        )
    if not rows:
        raise NotFoundError("There is no such message.")
    visit.check_organization(rows[0]["organization_id"])
    return rows


async def _record(
    connection: Connection, visit: Visit, action: str, message: Any, reason: str
) -> None:
    await audit.record(
        connection,
        actor=visit.actor,
        action=action,
        subject=public_id(message["id"]),
        organization_id=message["organization_id"],
        reason=reason,
    )


PAGES = (
    get("/messages", show_list),
    post("/messages/replay-dead", replay_dead),
    get("/messages/{message}", show, for_bound_keys=True),
    post("/messages/{message}/replay", replay, for_bound_keys=True),
    post("/messages/{message}/discard", discard, for_bound_keys=True),
)
