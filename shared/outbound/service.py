"""Outbound messages: committed with the effect that causes them, delivered at least once."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from shared import metrics
from shared.errors import AlreadyExistsError, ConflictError, NotFoundError, ValidationError
from shared.ids import new_id
from shared.outbound import rules, store
from shared.outbound.admin import store as admin
from shared.outbound.model import (
    DeliveryOutcome,
    EndpointWithSecret,
    MessageFilter,
    MessageKey,
    MessageState,
    MessageType,
    OutboundEndpoint,
    OutboundMessage,
)
from shared.printable import is_visible

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection, Pool

ENDPOINTS_MAX = 1_000


async def announce(connection: Connection, messages: Sequence[OutboundMessage]) -> None:
    """Announce messages in the caller's transaction: they are sent only if it commits.

    A repeated id changes nothing. If no endpoint subscribes to a type, nothing is written. SQL
    code calls the SQL function of the same name.
    """
    # In the order of their ids, so that two batches with the same ids cannot deadlock.
    if messages:
        await store.announce(connection, sorted(messages, key=lambda message: message.id))


async def add_endpoint(
    connection: Connection,
    *,
    url: str,
    types: Sequence[str] = (),
    description: str | None = None,
    allow_private: bool,
) -> EndpointWithSecret:
    """Register a URL for messages of these types (none: all) from now on.

    Raises ValidationError for a wrong field, AlreadyExistsError for a URL in use. A disabled URL is
    enabled again, under its old id and with a new secret.
    """
    rules.check_endpoint(url=url, types=types, description=description, allow_private=allow_private)
    secret = rules.new_secret(secrets.token_bytes(rules.SECRET_RANDOM_BYTES))
    endpoint = await store.add_endpoint(
        connection,
        new_id(),
        url=url,
        secret=secret,
        types=sorted(set(map(MessageType, types))),
        description=description,
    )
    if endpoint is None:
        raise AlreadyExistsError(f"An endpoint with the URL {url} exists.")
    return EndpointWithSecret(endpoint, secret)


async def put_endpoint(
    connection: Connection,
    *,
    url: str,
    types: Sequence[str] = (),
    description: str | None = None,
    allow_private: bool,
) -> tuple[OutboundEndpoint, str | None]:
    """Register a URL, or change its types and description; idempotent.

    Returns the endpoint, and its secret if that is new: for an unknown or a disabled URL. Raises
    ValidationError for a wrong field.
    """
    rules.check_endpoint(url=url, types=types, description=description, allow_private=allow_private)
    secret = rules.new_secret(secrets.token_bytes(rules.SECRET_RANDOM_BYTES))
    endpoint, has_new_secret = await store.put_endpoint(
        connection,
        new_id(),
        url=url,
        secret=secret,
        types=sorted(set(map(MessageType, types))),
        description=description,
    )
    return endpoint, secret if has_new_secret else None


async def list_endpoints(connection: Connection) -> list[OutboundEndpoint]:
    """Return every endpoint, disabled ones included, without secrets."""
    return await store.list_endpoints(connection)


async def remove_endpoint(connection: Connection, endpoint_id: UUID) -> int:
    """Disable an endpoint and discard its pending messages; return their number.

    Raises NotFoundError where no enabled endpoint has this id.
    """
    if not await store.disable_endpoint(connection, endpoint_id, "removed"):
        raise NotFoundError(f"There is no enabled endpoint {endpoint_id}.")
    return await store.discard_of_endpoint(connection, endpoint_id, "the endpoint was removed")


async def rotate_secret(
    connection: Connection, endpoint_id: UUID, *, now: datetime | None = None
) -> EndpointWithSecret:
    """Replace an endpoint's secret; the previous one signs as well for 24 hours more.

    Raises NotFoundError where no enabled endpoint has this id.
    """
    secret = rules.new_secret(secrets.token_bytes(rules.SECRET_RANDOM_BYTES))
    until = (now or datetime.now(UTC)) + rules.ROTATION_OVERLAP
    endpoint = await store.rotate_secret(connection, endpoint_id, secret, previous_until=until)
    if endpoint is None:
        raise NotFoundError(f"There is no enabled endpoint {endpoint_id}.")
    return EndpointWithSecret(endpoint, secret)


async def replay(connection: Connection, message_id: UUID) -> list[MessageKey]:
    """Make one message due again, with three days of attempts, for each endpoint that can get it.

    The caller owns the transaction; replays of many are batches (shared/replay). Raises
    NotFoundError, ConflictError if the message cannot be sent now.
    """
    if await admin.unknown(connection, [message_id]):
        raise NotFoundError(f"There is no message {rules.public_id(message_id)}.")
    any_state = MessageFilter(state=None)
    keys = await admin.named(connection, [message_id], any_state, limit=ENDPOINTS_MAX)
    due = [row.key for row in await admin.make_due(connection, keys, None) if row.is_due]
    if not due:
        raise ConflictError(
            "Nothing to replay: the endpoint is disabled, or a worker has the message."
        )
    return due


async def discard(connection: Connection, message_id: UUID, reason: str) -> list[asyncpg.Record]:
    """Discard a message for every endpoint that has not received it; return the changed rows.

    Raises NotFoundError, ConflictError if nothing is left to discard, ValidationError without a
    reason.
    """
    if not is_visible(reason):
        raise ValidationError("reason: say why")
    rows = await store.discard(connection, message_id, reason)
    if rows:
        return rows
    name = rules.public_id(message_id)
    known = await store.show_message(connection, message_id)
    if not known:
        raise NotFoundError(f"There is no message {name}.")
    raise ConflictError(f"{name} is {known[0]['state']}: there is nothing left to discard.")


async def finish(
    connection: Connection, token: UUID, outcome: DeliveryOutcome, *, gone: bool
) -> bool:
    """Record the outcome of an attempt and, where `gone`, disable its endpoint: one transaction.

    Returns False, and changes nothing, if the lease was lost or the message was discarded.
    """
    async with connection.transaction():
        finished = await store.finish(connection, token, outcome)
        if finished and gone:
            await store.disable_endpoint(
                connection, outcome.key.endpoint_id, "the receiver answered 410 Gone"
            )
    return finished


async def measure_backlog(pool: Pool) -> None:
    """Set the gauges of pending and dead messages: of the whole installation, from any worker."""
    async with pool.acquire() as connection:
        backlog = await store.backlog(connection)
    for state in (MessageState.PENDING, MessageState.DEAD):
        metrics.OUTBOUND_BACKLOG.labels(state).set(backlog.get(state, 0))
