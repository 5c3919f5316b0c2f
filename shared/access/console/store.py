"""Console sessions and one-time sign-in links, stored by the digest of their tokens."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from shared.access.console.model import (
    ABSOLUTE_LIFETIME,
    IDLE_LIFETIME,
    LINK_LIFETIME,
    SEEN_INTERVAL,
    ConsoleSession,
    Identity,
    Role,
)
from shared.access.service import digest
from shared.db.queries import beside

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__)
TOKEN_RANDOM_BYTES = 32


def new_token() -> str:
    """Return a random token of 256 bits, for a session or a link."""
    return secrets.token_urlsafe(TOKEN_RANDOM_BYTES)


async def open_session(
    connection: Connection, session_id: UUID, token: str, identity: Identity, *, now: datetime
) -> None:
    """Store a session. It ends with its key, after an hour without a request, or after 12 hours."""
    await connection.execute(
        QUERIES.open_session, session_id, digest(token), identity.key_id, identity.actor,
        identity.role, identity.organization_id, now, now + ABSOLUTE_LIFETIME,
    )  # fmt: skip


async def find_session(
    connection: Connection, token: str, *, now: datetime
) -> ConsoleSession | None:
    """Return the valid session of a token, and note that it was seen; None where there is none."""
    row = await connection.fetchrow(QUERIES.find_session, digest(token), now, IDLE_LIFETIME)
    if row is None:
        return None
    if row["last_seen_at"] < now - SEEN_INTERVAL:
        await connection.execute(QUERIES.see_session, row["id"], now)
    return ConsoleSession(
        id=row["id"],
        identity=_identity(row),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
    )


async def end_session(connection: Connection, session_id: UUID) -> None:
    """Delete a session."""
    await connection.execute(QUERIES.end_session, session_id)


async def create_link(
    connection: Connection, token: str, identity: Identity, *, now: datetime
) -> None:
    """Store a sign-in link, which works once within ten minutes."""
    await connection.execute(
        QUERIES.create_link, digest(token), identity.actor, identity.role,
        identity.organization_id, now, now + LINK_LIFETIME,
    )  # fmt: skip


async def use_link(connection: Connection, token: str, *, now: datetime) -> Identity | None:
    """Use a link up, and return whom it signs in; None where it is unknown, used or expired."""
    row = await connection.fetchrow(QUERIES.use_link, digest(token), now)
    return None if row is None else _identity(row)


async def purge(connection: Connection, retention: timedelta, *, rows_max: int) -> int:
    """Delete sessions and links that expired longer ago than the retention; return how many."""
    count: int = await connection.fetchval(QUERIES.purge, retention, rows_max)
    return count


def _identity(row: asyncpg.Record) -> Identity:
    return Identity(
        actor=row["actor"],
        role=Role(row["role"]),
        organization_id=row["organization_id"],
        key_id=row["key_id"],
    )
