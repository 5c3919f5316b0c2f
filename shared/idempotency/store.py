"""Idempotency keys of API requests: claimed, completed, released or deleted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from shared.db.queries import beside

if TYPE_CHECKING:
    from shared.db.pool import Connection

QUERIES = beside(__file__)


@dataclass(frozen=True, slots=True)
class Claimed:
    """This attempt holds the key until its lease expires; it executes the request under `id`."""

    tenant_id: UUID
    key: str
    token: UUID
    id: UUID


@dataclass(frozen=True, slots=True)
class AlreadyUsed:
    """The key was used before. Without an answer, its request is still in progress."""

    same_request: bool
    status: int | None
    answer: bytes | None


async def claim(
    connection: Connection,
    tenant_id: UUID,
    key: str,
    *,
    digest: bytes,
    new_id: UUID,
    token: UUID,
    lease: timedelta,
) -> Claimed | AlreadyUsed:
    """Claim a key, or return the state of the request that used it."""
    row = await connection.fetchrow(QUERIES.claim, tenant_id, key, digest, new_id, lease, token)
    if row is None:  # it was deleted meanwhile
        return AlreadyUsed(same_request=True, status=None, answer=None)
    if row["claimed"] is not None:
        return Claimed(tenant_id, key, token, row["claimed"])
    return AlreadyUsed(row["digest"] == digest, row["status"], row["answer"])


async def complete(connection: Connection, claimed: Claimed, *, status: int, answer: bytes) -> bool:
    """Store the answer for replays; False where another attempt holds the key by now."""
    stored_key = await connection.fetchval(
        QUERIES.complete, claimed.tenant_id, claimed.key, claimed.token, status, answer
    )
    return stored_key is not None


async def release(connection: Connection, claimed: Claimed) -> None:
    """End the lease, so that the next attempt can claim the key at once, under the same id."""
    await connection.execute(QUERIES.release, claimed.tenant_id, claimed.key, claimed.token)


async def delete(connection: Connection, claimed: Claimed) -> None:
    """Delete the key of a request that changed nothing; it may be used again."""
    await connection.execute(QUERIES.delete, claimed.tenant_id, claimed.key, claimed.token)


async def purge(connection: Connection, retention: timedelta, *, rows_max: int) -> int:
    """Delete keys older than the retention, oldest first; return how many."""
    count: int = await connection.fetchval(QUERIES.purge, retention, rows_max)
    return count
