"""The database connection of a command."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from cli.environment import environment
from shared import config
from shared.db.pool import close, connect

if TYPE_CHECKING:
    import asyncpg


def database_url() -> str:
    """Return the address of PostgreSQL itself; raise ConfigError where it is missing or wrong."""
    return config.direct_database_url(environment())


@asynccontextmanager
async def transaction() -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Yield a connection in a transaction, which commits unless an exception is raised."""
    connection = await connect(database_url(), application_name="prepaid-cli")
    try:
        async with connection.transaction():
            yield connection
    finally:
        await close(connection)
