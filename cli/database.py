"""The database connection of a command."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from cli.environment import DATABASE_VARIABLES, environment, home_path
from shared import config
from shared.db.pool import close, connect
from shared.errors import ConfigError

if TYPE_CHECKING:
    import asyncpg


def database_url() -> str:
    """Return the address of PostgreSQL itself; raise ConfigError where it is missing or wrong."""
    variables = environment()
    if not any(variables.get(name) for name in DATABASE_VARIABLES) and home_path().is_dir():
        raise ConfigError(
            "DATABASE_URL",
            "is missing, and the servers of this folder do not run. Start them with `make up`, or"
            " set it to an address such as postgresql://USER@HOST/DATABASE.",
        )
    return config.direct_database_url(variables)


@asynccontextmanager
async def transaction() -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Yield a connection in a transaction, which commits unless an exception is raised."""
    connection = await connect(database_url(), application_name="prepaid-cli")
    try:
        async with connection.transaction():
            yield connection
    finally:
        await close(connection)
