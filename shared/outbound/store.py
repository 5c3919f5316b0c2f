"""All SQL of outbound messages and their endpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from shared.db.queries import beside
from shared.outbound.model import (
    ClaimedMessage,
    DeliveryOutcome,
    MessageKey,
    MessageState,
    MessageType,
    OutboundEndpoint,
    OutboundMessage,
)
from shared.outbound.rules import exact

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__)
BACKLOG_ROWS_MAX = 100_000


async def announce(connection: Connection, messages: Sequence[OutboundMessage]) -> None:
    """Write messages for every endpoint that subscribes to them, in one round trip."""
    await connection.execute(
        QUERIES.announce,
        [message.organization_id for message in messages],
        [message.id for message in messages],
        [message.type for message in messages],
        [msgspec.json.encode(exact(message.data)).decode() for message in messages],
        [message.at for message in messages],
    )


async def add_endpoint(
    connection: Connection,
    endpoint_id: UUID,
    *,
    url: str,
    secret: str,
    types: Sequence[MessageType],
    description: str | None,
) -> OutboundEndpoint | None:
    """Store an endpoint, or enable a disabled one again; None: the URL is in use."""
    row = await connection.fetchrow(
        QUERIES.add_endpoint, endpoint_id, url, secret, list(types), description
    )
    return _endpoint(row) if row else None


async def put_endpoint(
    connection: Connection,
    endpoint_id: UUID,
    *,
    url: str,
    secret: str,
    types: Sequence[MessageType],
    description: str | None,
) -> tuple[OutboundEndpoint, bool]:
    """Store an endpoint or change the one with this URL; return whether its secret is new."""
    row = await connection.fetchrow(
        QUERIES.put_endpoint, endpoint_id, url, secret, list(types), description
    )
    fields: dict[str, Any] = dict(row or {})
    has_new_secret: bool = fields.pop("has_new_secret")
    return _endpoint(fields), has_new_secret


async def list_endpoints(connection: Connection) -> list[OutboundEndpoint]:
    """Return every endpoint, disabled ones included, the oldest first."""
    return [_endpoint(row) for row in await connection.fetch(QUERIES.list_endpoints)]


async def rotate_secret(
    connection: Connection, endpoint_id: UUID, secret: str, *, previous_until: datetime
) -> OutboundEndpoint | None:
    """Replace an enabled endpoint's secret; None: there is no such endpoint."""
    row = await connection.fetchrow(QUERIES.rotate_secret, endpoint_id, secret, previous_until)
    return _endpoint(row) if row else None


async def disable_endpoint(connection: Connection, endpoint_id: UUID, reason: str) -> bool:
    """Disable an endpoint; False: no enabled endpoint has this id."""
    return bool(await connection.fetch(QUERIES.disable_endpoint, endpoint_id, reason))


async def discard_of_endpoint(connection: Connection, endpoint_id: UUID, reason: str) -> int:
    """Discard the pending messages of an endpoint; return their number."""
    return len(await connection.fetch(QUERIES.discard_of_endpoint, endpoint_id, reason))


async def claim(
    connection: Connection,
    *,
    rows_max: int,
    per_endpoint_max: int,
    under_way: Mapping[UUID, int],
    token: UUID,
    lease: timedelta,
) -> list[ClaimedMessage]:
    """Lease up to `rows_max` due messages under a token.

    No endpoint has more than `per_endpoint_max` at once, including those `under_way`.
    """
    rows = await connection.fetch(
        QUERIES.claim,
        rows_max,
        token,
        lease,
        per_endpoint_max,
        list(under_way),
        list(under_way.values()),
    )
    return [_claimed(row) for row in rows]


async def finish(connection: Connection, token: UUID, outcome: DeliveryOutcome) -> bool:
    """Record an outcome if the lease is still held under this token; False otherwise."""
    rows = await connection.fetch(
        QUERIES.finish,
        token,
        outcome.key.id,
        outcome.key.endpoint_id,
        outcome.state,
        outcome.last_status,
        exact(outcome.reason),
        outcome.available_at,
    )
    return bool(rows)


async def backlog(connection: Connection) -> dict[MessageState, int]:
    """Return how many messages are pending and dead; counting ends at BACKLOG_ROWS_MAX."""
    rows = await connection.fetch(QUERIES.backlog, BACKLOG_ROWS_MAX)
    return {MessageState(row["state"]): row["messages"] for row in rows}


async def list_messages(
    connection: Connection, *, state: str | None, message_type: str | None, limit: int
) -> list[asyncpg.Record]:
    """Return the newest messages, a row for each endpoint."""
    return await connection.fetch(QUERIES.list_messages, state, message_type, limit)


async def show_message(connection: Connection, message_id: UUID) -> list[asyncpg.Record]:
    """Return a message's rows, one for each endpoint."""
    return await connection.fetch(QUERIES.show_message, message_id)


async def discard(connection: Connection, message_id: UUID, reason: str) -> list[asyncpg.Record]:
    """Discard a message for endpoints that have not received it; return the changed rows."""
    return await connection.fetch(QUERIES.discard, message_id, reason)


def _endpoint(row: Mapping[str, Any] | asyncpg.Record) -> OutboundEndpoint:
    fields: dict[str, Any] = dict(row)
    return OutboundEndpoint(**fields | {"types": tuple(map(MessageType, row["types"]))})


def _claimed(row: asyncpg.Record) -> ClaimedMessage:
    return ClaimedMessage(
        key=MessageKey(row["id"], row["endpoint_id"]),
        type=MessageType(row["type"]),
        payload=row["payload"],
        attempts=row["attempts"],
        since=row["since"],
        url=row["url"],
        secret=row["secret"],
        previous_secret=row["previous_secret"],
        previous_secret_until=row["previous_secret_until"],
        endpoint_disabled=row["endpoint_disabled"],
    )
