"""API keys, and the audit log."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict
from uuid import UUID

from shared.access.model import (
    SCOPE_NAMES,
    SESSION_SCOPES,
    WRITE,
    WRITE_SCOPES,
    Actor,
    Caller,
    Scope,
    parse_scopes,
    scopes_text,
)
from shared.db.queries import beside
from shared.errors import AlreadyExistsError, ConflictError, NotFoundError, ValidationError
from shared.ids import new_id
from shared.printable import is_name

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__)
KEY_PREFIX = "ppk_"
KEY_RANDOM_BYTES = 32
NAME_LENGTH_MAX = 100
# Of a page.
KEYS_MAX = 1_000
USED_SECONDS_MIN = 60


class CreatedKey(TypedDict):
    """A new key; the key itself is never shown again."""

    id: str
    key: str
    scope: str
    organizationId: str | None


def digest(key: str) -> bytes:
    """Return the stored digest of a key. With 256 random bits, it needs no slow hash."""
    return hashlib.sha256(key.encode()).digest()


async def create_key(
    connection: Connection,
    *,
    name: str,
    scope: str,
    organization_id: UUID | None,
    expires_at: datetime | None = None,
) -> CreatedKey:
    """Create a key, for one organization or (None) for all.

    `scope`: names of scopes, separated by commas. Raises ValidationError for a name or a scope that
    is not valid, AlreadyExistsError where a valid key has the name.
    """
    if not is_name(name, length_max=NAME_LENGTH_MAX):
        raise ValidationError(f"name: 1 to {NAME_LENGTH_MAX} printable characters")
    try:
        scopes = parse_scopes(part.strip() for part in scope.split(","))
    except ValueError:
        raise ValidationError(f"scope: {', '.join(SCOPE_NAMES)}, separated by commas") from None
    return await _store_key(
        connection,
        name=name,
        scopes=scopes,
        organization_id=organization_id,
        expires_at=expires_at,
    )


async def _store_key(
    connection: Connection,
    *,
    name: str,
    scopes: frozenset[Scope],
    organization_id: UUID | None,
    expires_at: datetime | None,
) -> CreatedKey:
    key_id, key = new_id(), KEY_PREFIX + secrets.token_urlsafe(KEY_RANDOM_BYTES)
    await connection.execute(QUERIES.retire_expired, name)
    stored = await connection.fetchval(
        QUERIES.create_key, key_id, name, _scope_before(scopes), sorted(scopes), organization_id,
        digest(key), key[-4:], expires_at,
    )  # fmt: skip
    if stored is None:
        raise AlreadyExistsError(
            f"There is a key called {name!r}: revoke or rotate it, or choose another name."
        )
    return CreatedKey(
        id=str(key_id),
        key=key,
        scope=scopes_text(scopes),
        organizationId=str(organization_id) if organization_id else None,
    )


def _scope_before(scopes: frozenset[Scope]) -> str:
    """Return the scope in the column that processes of the last release read."""
    if Scope.ADMIN in scopes:
        return Scope.ADMIN
    return WRITE if scopes >= WRITE_SCOPES else Scope.READ


def scopes_of(row: asyncpg.Record) -> frozenset[Scope]:
    """Return the scopes of a stored key."""
    return parse_scopes(row["scopes"] or [row["scope"]])


async def rotate_key(connection: Connection, key_id: UUID, *, until: datetime) -> CreatedKey:
    """Create a key with the rights and the name of another, which expires at `until`.

    Raises NotFoundError where there is no valid key of this id, ConflictError where it was rotated
    before.
    """
    row = await connection.fetchrow(QUERIES.lock_key, key_id)
    if row is None:
        raise NotFoundError(f"There is no valid key {key_id}.")
    if row["replaced_by"] is not None:
        raise ConflictError(f"This key was rotated before; its successor is {row['replaced_by']}.")
    await connection.execute(QUERIES.replace_key, key_id, key_id, until)
    successor = await _store_key(
        connection,
        name=row["name"],
        scopes=scopes_of(row),
        organization_id=row["organization_id"],
        expires_at=row["expires_at"],
    )
    await connection.execute(QUERIES.replace_key, key_id, UUID(successor["id"]), until)
    return successor


async def find_callers(connection: Connection, digests: Sequence[bytes]) -> dict[bytes, Caller]:
    """Return the callers by the digests of their keys or tokens; invalid ones are left out."""
    rows = await connection.fetch(QUERIES.find_callers, digests)
    return {
        row["digest"]: Caller(
            key_id=row["id"],
            scopes=SESSION_SCOPES if row["is_session"] else scopes_of(row),
            organization_id=row["organization_id"],
            name=row["name"],
            expires_at=row["expires_at"],
            is_session=row["is_session"],
        )
        for row in rows
    }


async def record_uses(connection: Connection, uses: Mapping[UUID, datetime]) -> None:
    """Record when keys were last used, at most once a minute per key."""
    await connection.execute(
        QUERIES.record_uses, list(uses), list(uses.values()), timedelta(seconds=USED_SECONDS_MIN)
    )


async def list_keys(
    connection: Connection, *, before: UUID | None = None, limit: int = KEYS_MAX
) -> list[asyncpg.Record]:
    """Return a page of the keys, newest first, without the keys themselves."""
    return await connection.fetch(QUERIES.list_keys, before, limit)


async def revoke_key(connection: Connection, key_id: UUID) -> None:
    """Revoke a key; raise NotFoundError where there is no valid key with this id."""
    if await connection.fetchval(QUERIES.revoke_key, key_id) is None:
        raise NotFoundError(f"There is no valid key {key_id}.")


async def record(
    connection: Connection,
    *,
    actor: Actor | str,
    action: str,
    subject: str,
    reason: str | None = None,
    organization_id: UUID | None = None,
    details: dict[str, Any] | None = None,
) -> None:
    """Write an audit entry in the transaction of the change that it records."""
    by = actor if isinstance(actor, Actor) else Actor(actor)
    await connection.execute(
        QUERIES.record,
        new_id(),
        by.name,
        action,
        subject,
        organization_id,
        reason,
        details or {},
        by.key_id,
        by.request_id,
    )


async def record_each(
    connection: Connection,
    *,
    actor: Actor | str,
    action: str,
    subjects: Sequence[str],
    reason: str,
) -> None:
    """Write an audit entry for each subject, in the transaction of the changes: one statement."""
    by = actor if isinstance(actor, Actor) else Actor(actor)
    await connection.execute(
        QUERIES.record_each,
        [new_id() for _ in subjects],
        by.name,
        action,
        reason,
        list(subjects),
        by.key_id,
        by.request_id,
    )


async def audit_entries(
    connection: Connection,
    *,
    organization_id: UUID | None,
    actor: str | None,
    since: datetime | None,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> list[asyncpg.Record]:
    """Return entries of the audit log, newest first; `after` an entry of the page before."""
    at, entry_id = after or (None, None)
    return await connection.fetch(
        QUERIES.audit_entries, organization_id, actor, since, at, entry_id, limit
    )


async def acts_on(connection: Connection, subject: str, *, rows_max: int) -> list[asyncpg.Record]:
    """Return the audit entries about a subject, newest first."""
    return await connection.fetch(QUERIES.acts_on, subject, rows_max)


async def session_role(connection: Connection) -> str:
    """Return the database role that opened the connection."""
    role: str = await connection.fetchval(QUERIES.session_role)
    return role
