"""One connection for one command."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ops.environment import environment
from shared.db.pool import connect
from shared.errors import ConfigError

if TYPE_CHECKING:
    import asyncpg


def database_url() -> str:
    """Return DATABASE_URL; raise ConfigError where it is missing."""
    url = environment().get("DATABASE_URL", "")
    if not url:
        raise ConfigError(
            "DATABASE_URL",
            "is missing. Set it to postgresql://user:pass@host/name, or start `make up` here.",
        )
    return url


@asynccontextmanager
async def transaction() -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Connect, and commit at the end if nothing was raised."""
    connection = await connect(database_url(), application_name="prepaid-cli")
    try:
        async with connection.transaction():
            yield connection
    finally:
        await connection.close()
