"""Connections to PostgreSQL, with the time limits that keep one stuck client from stopping all."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol

import asyncpg
import msgspec

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Pool = asyncpg.Pool[asyncpg.Record]
    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
    AcquiredConnection = AbstractAsyncContextManager[Connection]


class Connections(Protocol):
    """Whatever gives connections: a pool, or a share of one."""

    def acquire(self) -> AcquiredConnection:
        """Give a connection for the time of a block."""
        ...


CONNECT_SECONDS_MAX = 5
STATEMENT_SECONDS_MAX = 30
# How much later than its own limit a server may say that a statement took too long.
SERVER_SECONDS_MAX = 5
CLOSE_SECONDS_MAX = 1.0

# What asyncpg raises when PostgreSQL is away, restarting or full: try again later.
AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what a connection that is being lost may say instead
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ReadOnlySQLTransactionError,
    # Columns were added since a statement was prepared; the next try prepares it again.
    asyncpg.InvalidCachedStatementError,
    asyncpg.OutdatedSchemaCacheError,
)

# A deadlock, a lock that does not come in time, a statement that takes too long: nothing of that
# transaction was committed, and nothing is wrong with what was asked, so that whoever asked may ask
# again. It is about the rows of this transaction; others are served.
LOCKED = (asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError)
CONTENTION = (*LOCKED, asyncpg.QueryCanceledError)

UNAVAILABLE = (*AWAY, *CONTENTION)

_SERVER_SETTINGS = {
    "timezone": "UTC",
    "statement_timeout": f"{STATEMENT_SECONDS_MAX}s",
    "lock_timeout": "10s",
    # A worker that freezes inside a transaction loses it, and with it its row locks.
    "idle_in_transaction_session_timeout": "10s",
}


async def _prepare_connection(connection: Connection) -> None:
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: msgspec.json.encode(value).decode(),
        decoder=msgspec.json.decode,
    )


async def _keep_session(_connection: Connection) -> None:
    """Leave a session as it is when its connection comes back.

    asyncpg would send RESET ALL, UNLISTEN and the like: a round trip, before those who share a
    commit have their answers. No statement of ours changes a session, which
    tests/architecture/test_sql.py checks; a transaction that was left open is rolled back first.
    """


async def connect(
    database_url: str,
    *,
    application_name: str,
    statement_seconds_max: int = STATEMENT_SECONDS_MAX,
) -> asyncpg.Connection[asyncpg.Record]:
    """Open one connection with the house's settings; a statement may be given more time."""
    connection = await asyncpg.connect(
        database_url,
        timeout=CONNECT_SECONDS_MAX,
        # Longer than the server's own limit: it is for a server that is frozen, or gone.
        command_timeout=statement_seconds_max + SERVER_SECONDS_MAX,
        server_settings={
            **_SERVER_SETTINGS,
            "application_name": application_name,
            "statement_timeout": f"{statement_seconds_max}s",
        },
    )
    await _prepare_connection(connection)
    return connection


async def close(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Close a connection of `connect`; where the server does not answer, drop it."""
    try:
        await connection.close(timeout=CLOSE_SECONDS_MAX)
    except UNAVAILABLE:
        connection.terminate()


def create_pool(database_url: str, *, size: int, application_name: str) -> Pool:
    """Return a pool that opens on first use (`await pool` or `async with pool`).

    The pool starts without PostgreSQL being there and recovers by itself when it comes back.
    """
    return asyncpg.create_pool(
        database_url,
        min_size=0,
        max_size=size,
        timeout=CONNECT_SECONDS_MAX,
        command_timeout=STATEMENT_SECONDS_MAX + SERVER_SECONDS_MAX,
        max_inactive_connection_lifetime=300,
        init=_prepare_connection,
        reset=_keep_session,
        server_settings={**_SERVER_SETTINGS, "application_name": application_name},
    )
