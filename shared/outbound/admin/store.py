"""SQL for operators: select messages to endpoints, make them due again, discard them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from shared.db.queries import beside
from shared.outbound.model import MessageFilter, MessageKey, MessageState

if TYPE_CHECKING:
    from shared.db.pool import Connection

QUERIES = beside(__file__)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = MessageKey(UUID(int=0), UUID(int=0))


@dataclass(frozen=True, slots=True)
class SelectedDelivery:
    """A message to one endpoint, and when it was created."""

    key: MessageKey
    created_at: datetime


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """Whether a message to one endpoint was made due; it never is where that is disabled."""

    key: MessageKey
    is_due: bool
    is_disabled: bool


async def select(
    connection: Connection,
    wanted: MessageFilter,
    *,
    until: datetime,
    after: SelectedDelivery | None,
    limit: int,
    sendable: bool,
) -> list[SelectedDelivery]:
    """Return a chunk of what matches a filter (dead by default), oldest first, after a place.

    `sendable`: without what a worker is sending, and without disabled endpoints.
    """
    state = wanted.state or MessageState.DEAD
    is_open = state in (MessageState.PENDING, MessageState.DEAD)
    place = after or SelectedDelivery(_FIRST, wanted.since or _EPOCH)
    rows = await connection.fetch(
        QUERIES.select_open_deliveries if is_open else QUERIES.select_deliveries,
        state,
        wanted.type,
        wanted.endpoint_id,
        until,
        place.created_at,
        place.key.id,
        place.key.endpoint_id,
        limit,
        sendable,
        wanted.organization_id,
    )
    return [
        SelectedDelivery(MessageKey(row["id"], row["endpoint_id"]), row["created_at"])
        for row in rows
    ]


async def named(
    connection: Connection, ids: Sequence[UUID], wanted: MessageFilter, *, limit: int
) -> list[MessageKey]:
    """Return the messages with these ids that match a filter and can be sent again now."""
    rows = await connection.fetch(
        QUERIES.named_deliveries,
        list(ids),
        wanted.state,
        wanted.type,
        wanted.since,
        wanted.endpoint_id,
        limit,
        wanted.organization_id,
    )
    return [MessageKey(row["id"], row["endpoint_id"]) for row in rows]


async def unknown(connection: Connection, ids: Sequence[UUID]) -> UUID | None:
    """Return the first of these ids that no message has."""
    found: UUID | None = await connection.fetchval(QUERIES.unknown_messages, list(ids))
    return found


async def is_disabled(connection: Connection, endpoint_id: UUID) -> bool | None:
    """Return whether an endpoint is disabled; None: there is none."""
    found: bool | None = await connection.fetchval(QUERIES.endpoint_disabled, endpoint_id)
    return found


async def make_due(
    connection: Connection, keys: Sequence[MessageKey], state: MessageState | None
) -> list[DueDelivery]:
    """Make messages due again, with three days of attempts, where they are in a state (None: any).

    Locks them in the order of their ids. Those that a worker is sending do not change.
    """
    rows = await connection.fetch(
        QUERIES.make_due, [key.id for key in keys], [key.endpoint_id for key in keys], state
    )
    return [
        DueDelivery(MessageKey(row["id"], row["endpoint_id"]), row["is_due"], row["is_disabled"])
        for row in rows
    ]


async def discard(
    connection: Connection, keys: Sequence[MessageKey], state: MessageState, reason: str
) -> list[MessageKey]:
    """Discard messages that are still in an open state; return those that changed."""
    rows = await connection.fetch(
        QUERIES.discard_deliveries,
        [key.id for key in keys],
        [key.endpoint_id for key in keys],
        reason,
        state,
    )
    return [MessageKey(row["id"], row["endpoint_id"]) for row in rows]
