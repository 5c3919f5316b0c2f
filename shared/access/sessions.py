"""Browser sessions: short-lived tokens for one organization."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from shared.access.service import KEY_PREFIX, KEY_RANDOM_BYTES, QUERIES, digest

if TYPE_CHECKING:
    from shared.db.pool import Connection

# Masked in logs and accepted like a key; the word makes it recognizable.
TOKEN_PREFIX = f"{KEY_PREFIX}session_"
SESSION_LIFETIME = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Session:
    """A new session; its token is never shown again."""

    id: UUID
    token: str
    expires_at: datetime


async def open_session(
    connection: Connection,
    session_id: UUID,
    *,
    organization_id: UUID,
    key_id: UUID,
    request_id: str,
    now: datetime,
) -> Session:
    """Create a session, stored by the digest of its token. It ends with its key."""
    token = TOKEN_PREFIX + secrets.token_urlsafe(KEY_RANDOM_BYTES)
    expires_at = now + SESSION_LIFETIME
    await connection.execute(
        QUERIES.create_session, session_id, digest(token), organization_id, key_id, request_id,
        expires_at,
    )  # fmt: skip
    return Session(session_id, token, expires_at)


async def purge(connection: Connection, retention: timedelta, *, rows_max: int) -> int:
    """Delete sessions that expired longer ago than the retention, oldest first; return how many."""
    count: int = await connection.fetchval(QUERIES.purge_sessions, retention, rows_max)
    return count
