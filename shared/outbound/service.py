"""Telling the customer's app: committed with what caused it, delivered at least once."""

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
from shared.outbound.model import (
    Endpoint,
    Message,
    MessageState,
    MessageType,
    NewSecret,
    Settlement,
)

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection, Pool

REPLAY_ROWS_MAX = 10_000


async def announce(connection: Connection, messages: Sequence[Message]) -> None:
    """Announce messages in the caller's transaction: they are sent if it commits, and only then.

    A message whose id was announced before changes nothing. Where no endpoint wants a type, nothing
    is written. SQL calls the function of the same name.
    """
    # In the order of their ids, so that two batches with the same ids do not wait for each other.
    if messages:
        await store.announce(connection, sorted(messages, key=lambda message: message.id))


async def add_endpoint(
    connection: Connection,
    *,
    url: str,
    types: Sequence[str] = (),
    description: str | None = None,
    allow_private: bool,
) -> NewSecret:
    """Register an address; from now on it hears of the types it wants (none named: of all).

    Raises ValidationError for a field that is wrong, AlreadyExistsError for a URL in use. A URL
    that is disabled is enabled again, under its old id and with a new secret.
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
    return NewSecret(endpoint, secret)


async def put_endpoint(
    connection: Connection,
    *,
    url: str,
    types: Sequence[str] = (),
    description: str | None = None,
    allow_private: bool,
) -> tuple[Endpoint, str | None]:
    """Register an address, or change what it wants; doing it twice changes nothing.

    Returns the endpoint, and its secret where that is new: for a URL that was not known, or was
    disabled. Raises ValidationError for a field that is wrong.
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


async def list_endpoints(connection: Connection) -> list[Endpoint]:
    """Return every endpoint, disabled ones too, without secrets."""
    return await store.list_endpoints(connection)


async def remove_endpoint(connection: Connection, endpoint_id: UUID) -> int:
    """Send an endpoint nothing any more, and discard what waits for it; return how much that was.

    Raises NotFoundError where there is no endpoint with this id that is enabled.
    """
    if not await store.disable_endpoint(connection, endpoint_id, "removed"):
        raise NotFoundError(f"There is no enabled endpoint {endpoint_id}.")
    return await store.discard_of_endpoint(connection, endpoint_id, "the endpoint was removed")


async def rotate_secret(
    connection: Connection, endpoint_id: UUID, *, now: datetime | None = None
) -> NewSecret:
    """Give an endpoint a new secret; the one before it signs beside it for 24 hours more.

    Raises NotFoundError where there is no endpoint with this id that is enabled.
    """
    secret = rules.new_secret(secrets.token_bytes(rules.SECRET_RANDOM_BYTES))
    until = (now or datetime.now(UTC)) + rules.ROTATION_OVERLAP
    endpoint = await store.rotate_secret(connection, endpoint_id, secret, previous_until=until)
    if endpoint is None:
        raise NotFoundError(f"There is no enabled endpoint {endpoint_id}.")
    return NewSecret(endpoint, secret)


async def replay(
    connection: Connection,
    *,
    ids: Sequence[UUID] = (),
    state: MessageState | None = None,
    message_type: MessageType | None = None,
) -> list[asyncpg.Record]:
    """Make messages due again, with three days of attempts before them; return their rows.

    The named ones, delivered ones too, or (none named) all that the filters name: dead ones where
    they name no state. Raises NotFoundError for an id that nobody announced, ConflictError where
    named ones cannot be sent now.
    """
    for message_id in ids:
        if not await store.show_message(connection, message_id):
            raise NotFoundError(f"There is no message {rules.public_id(message_id)}.")
    rows = await store.replay(
        connection,
        ids=ids or None,
        state=state if ids or state else MessageState.DEAD,
        message_type=message_type,
        limit=REPLAY_ROWS_MAX,
    )
    if ids and not rows:
        raise ConflictError(
            "Nothing to replay: the endpoint is disabled, or a worker has the message, or it is in "
            "another state."
        )
    return rows


async def discard(connection: Connection, message_id: UUID, reason: str) -> list[asyncpg.Record]:
    """Close a message for good wherever it was not delivered; return the rows that were closed.

    Raises NotFoundError, ConflictError where nothing is left to discard, ValidationError without a
    reason.
    """
    if not reason.strip():
        raise ValidationError("reason: say why")
    rows = await store.discard(connection, message_id, reason)
    if rows:
        return rows
    name = rules.public_id(message_id)
    found = await store.show_message(connection, message_id)
    if not found:
        raise NotFoundError(f"There is no message {name}.")
    raise ConflictError(f"{name} is {found[0]['state']}: there is nothing left to discard.")


async def settle(
    connection: Connection, token: UUID, settlement: Settlement, *, gone: bool
) -> bool:
    """Record what an attempt came to, and disable its endpoint where that is `gone`, in one go.

    False where the lease has passed to another, or a person has discarded the message: then
    nothing is changed.
    """
    async with connection.transaction():
        settled = await store.settle(connection, token, settlement)
        if settled and gone:
            await store.disable_endpoint(
                connection, settlement.key.endpoint_id, "the receiver answered 410 Gone"
            )
    return settled


async def measure_backlog(pool: Pool) -> None:
    """Set the gauges of what waits and what is dead. Any worker may: they are not its own."""
    async with pool.acquire() as connection:
        backlog = await store.backlog(connection)
    for state in (MessageState.PENDING, MessageState.DEAD):
        metrics.OUTBOUND_BACKLOG.labels(state).set(backlog.get(state, 0))
