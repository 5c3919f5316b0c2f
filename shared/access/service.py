"""API keys, and the audit log of what people did."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypedDict
from uuid import UUID

from shared.access.model import Caller, Scope
from shared.db.queries import beside
from shared.errors import NotFoundError, ValidationError
from shared.ids import new_id

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__)
KEY_PREFIX = "ppk_"
KEY_RANDOM_BYTES = 32
NAME_LENGTH_MAX = 100
SCOPES = tuple(Scope)


class CreatedKey(TypedDict):
    """A new key: the only time that the key itself is shown."""

    id: str
    key: str
    scope: str
    organizationId: str | None


def digest(key: str) -> bytes:
    """Return what is stored of a key. Its 256 random bits make a slow hash needless."""
    return hashlib.sha256(key.encode()).digest()


async def create_key(
    connection: Connection, *, name: str, scope: str, organization_id: UUID | None
) -> CreatedKey:
    """Make a key of the given scope, for one organization or (None) for all."""
    if not 1 <= len(name) <= NAME_LENGTH_MAX or not name.isprintable():
        raise ValidationError(f"name: 1 to {NAME_LENGTH_MAX} printable characters")
    if scope not in SCOPES:
        raise ValidationError(f"scope: one of {', '.join(SCOPES)}")
    key_id, key = new_id(), KEY_PREFIX + secrets.token_urlsafe(KEY_RANDOM_BYTES)
    await connection.execute(
        QUERIES.create_key, key_id, name, scope, organization_id, digest(key), key[-4:]
    )
    return CreatedKey(
        id=str(key_id),
        key=key,
        scope=scope,
        organizationId=str(organization_id) if organization_id else None,
    )


async def find_callers(connection: Connection, keys_sha256: Sequence[bytes]) -> dict[bytes, Caller]:
    """Return who calls with the keys of these digests; what is no key that works is left out."""
    rows = await connection.fetch(QUERIES.find_callers, keys_sha256)
    return {
        row["key_sha256"]: Caller(
            row["id"], Scope(row["scope"]), row["organization_id"], row["name"]
        )
        for row in rows
    }


async def list_keys(connection: Connection) -> list[asyncpg.Record]:
    """Return every key, newest first, without the keys themselves."""
    return await connection.fetch(QUERIES.list_keys)


async def revoke_key(connection: Connection, key_id: UUID) -> None:
    """Make a key useless; raise NotFoundError where there is none that works."""
    if await connection.fetchval(QUERIES.revoke_key, key_id) is None:
        raise NotFoundError(f"There is no working key {key_id}.")


async def record(
    connection: Connection,
    *,
    actor: str,
    action: str,
    subject: str,
    reason: str | None = None,
    organization_id: UUID | None = None,
    details: dict[str, Any] | None = None,
) -> None:
    """Write a line of the audit log, in the transaction of what it tells of."""
    await connection.execute(
        QUERIES.record,
        new_id(),
        actor,
        action,
        subject,
        organization_id,
        reason,
        details or {},
    )
