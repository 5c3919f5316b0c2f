"""The SQL of requests that are made once."""

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
    """The key is this try's, until its lease ends: carry the request out under this id."""

    tenant_id: UUID
    key: str
    token: UUID
    id: UUID


@dataclass(frozen=True, slots=True)
class Seen:
    """The key has been used. Without an answer, its request is under way."""

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
) -> Claimed | Seen:
    """Take a key, or say what became of the request that has it."""
    row = await connection.fetchrow(QUERIES.claim, tenant_id, key, digest, new_id, lease, token)
    if row is None:  # it was freed meanwhile
        return Seen(same_request=True, status=None, answer=None)
    if row["claimed"] is not None:
        return Claimed(tenant_id, key, token, row["claimed"])
    return Seen(row["digest"] == digest, row["status"], row["answer"])


async def keep(connection: Connection, claimed: Claimed, *, status: int, answer: bytes) -> bool:
    """Keep the answer, to be given again; False: another try has the key by now."""
    kept = await connection.fetchval(
        QUERIES.keep, claimed.tenant_id, claimed.key, claimed.token, status, answer
    )
    return kept is not None


async def leave(connection: Connection, claimed: Claimed) -> None:
    """Let the next try in at once, under the same id."""
    await connection.execute(QUERIES.leave, claimed.tenant_id, claimed.key, claimed.token)


async def forget(connection: Connection, claimed: Claimed) -> None:
    """Free a key whose request changed nothing."""
    await connection.execute(QUERIES.forget, claimed.tenant_id, claimed.key, claimed.token)


async def purge(connection: Connection, kept: timedelta, *, rows_max: int) -> int:
    """Forget what is older, the oldest first; return how much that was."""
    count: int = await connection.fetchval(QUERIES.purge, kept, rows_max)
    return count
