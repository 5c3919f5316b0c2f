"""SQL that deletes payloads of finished events, and client secrets."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from shared.db.queries import beside
from shared.durations import Duration
from shared.inbox import rules
from shared.inbox.model import EventKey

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__)


async def deleted_payloads(connection: Connection, ids: Sequence[str]) -> dict[str, datetime]:
    """Return those of these events whose payload was deleted, with the time of deletion."""
    rows = await connection.fetch(QUERIES.deleted_payloads, ids)
    return {row["id"]: row["payload_forgotten_at"] for row in rows}


async def remove_client_secrets(connection: Connection, *, rows_max: int) -> int:
    """Remove client secrets from events that an older release stored; return how many events."""
    count: int = await connection.fetchval(QUERIES.remove_client_secrets, rows_max)
    return count


async def delete_payloads(connection: Connection, *, retention: Duration, rows_max: int) -> int:
    """Delete the payloads of events that finished before the retention; return how many.

    The type and id of an event's object stay, so that a replay can read it from Stripe again.
    """
    async with connection.transaction():
        rows = await connection.fetch(
            QUERIES.payloads_to_delete, retention.months, retention.time, rows_max
        )
        return await _delete(connection, rows)


async def oldest_payload(connection: Connection) -> datetime | None:
    """Return when the oldest event finished whose payload the retention deletes."""
    time: datetime | None = await connection.fetchval(QUERIES.oldest_payload)
    return time


async def delete_payloads_of(connection: Connection, keys: Sequence[EventKey]) -> int:
    """Delete the payloads of those of these events that have finished; return how many."""
    rows = await connection.fetch(
        QUERIES.finished_payloads,
        [key.account for key in keys],
        [key.livemode for key in keys],
        [key.id for key in keys],
    )
    return await _delete(connection, rows)


async def _delete(connection: Connection, rows: Sequence[asyncpg.Record]) -> int:
    count: int = await connection.fetchval(
        QUERIES.delete_payloads,
        [row["account"] for row in rows],
        [row["livemode"] for row in rows],
        [row["id"] for row in rows],
        [rules.without_data(row["payload"], row["id"], row["type"]) for row in rows],
    )
    return count
