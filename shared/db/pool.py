"""Connections to PostgreSQL, with time limits so that one stuck client does not block others."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol, cast

import asyncpg
import msgspec

from shared.errors import ConfigError

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy
    from asyncpg.transaction import Transaction

    Pool = asyncpg.Pool[asyncpg.Record]
    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
    _Connection = asyncpg.Connection[asyncpg.Record]
    AcquiredConnection = AbstractAsyncContextManager[Connection]


if not TYPE_CHECKING:
    _Connection = asyncpg.Connection  # has no parameters when it runs


class Connections(Protocol):
    """A source of connections: a pool, or a share of one."""

    def acquire(self) -> AcquiredConnection:
        """Acquire a connection for the duration of a block."""
        ...


CONNECT_SECONDS_MAX = 5
STATEMENT_SECONDS_MAX = 30
# How long after its own time limit the server may report that a statement took too long.
SERVER_SECONDS_MAX = 5
CLOSE_SECONDS_MAX = 1.0

# What asyncpg raises when PostgreSQL is unavailable, restarting, or out of connections or disk
# space. Lack of memory may be of one statement's making, and is none of these.
AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # raised instead by a connection that is being lost
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.DiskFullError,
    asyncpg.ReadOnlySQLTransactionError,
    # Columns were added since a statement was prepared; a retry prepares it again.
    asyncpg.InvalidCachedStatementError,
    asyncpg.OutdatedSchemaCacheError,
)

# Of these, what a cluster's coordinator reports about a node that is away. Of PostgreSQL itself
# they end the session.
_NODE_AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
)

# A deadlock, a lock timeout or a statement timeout: the transaction was rolled back and may be
# retried as it is. It concerns the rows of this transaction; others are not affected.
LOCKED = (asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError)
CONTENTION = (*LOCKED, asyncpg.QueryCanceledError)

UNAVAILABLE = (*AWAY, *CONTENTION)


def is_reported(error: BaseException) -> bool:
    """Whether PostgreSQL reported an error and kept the session: the server still answers."""
    return isinstance(error, asyncpg.PostgresError) and error.severity_en == "ERROR"


def is_node_away(error: BaseException) -> bool:
    """Whether PostgreSQL answers, and a node of its cluster does not.

    Only the transactions that need the node fail.
    """
    return isinstance(error, _NODE_AWAY) and is_reported(error)


# Through a pooler the role has them: sessions are shared, and PgBouncer refuses them at start-up.
LIMITS = {
    "statement_timeout": f"{STATEMENT_SECONDS_MAX}s",
    "lock_timeout": "10s",
    # A worker that freezes inside a transaction loses it, and with it its row locks.
    "idle_in_transaction_session_timeout": "10s",
}
_SERVER_SETTINGS = {"timezone": "UTC"}
_CACHED_STATEMENTS_MAX = 100


# For statements that look up rows by keys: one plan, by index, serves all arguments. PostgreSQL
# takes the plan of an array with one element for cheaper, and would plan each such statement again.
_PLANNED_ONCE = " SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_seqscan = off;"


class LimitingConnection(_Connection):
    """A connection that begins a transaction and limits its waits in one round trip."""

    _limits = ""

    async def execute(
        self,
        query: str,
        *args: Any,
        timeout: float | None = None,  # noqa: ASYNC109 - as asyncpg has it
    ) -> str:
        """Execute a statement; the one that begins a limited transaction with its limits."""
        limits, self._limits = self._limits, ""
        return await super().execute(query + limits, *args, timeout=timeout)

    def limit_next_transaction(
        self, *, lock_milliseconds: int, statement_milliseconds: int, planned_once: bool
    ) -> None:
        """Limit lock waits and statements in the transaction, or savepoint, that begins next."""
        self._limits = (
            f" SET LOCAL lock_timeout = {lock_milliseconds:d};"
            f" SET LOCAL statement_timeout = {statement_milliseconds:d};"
            f"{_PLANNED_ONCE if planned_once else ''}"
        )


def limited_transaction(
    connection: Connection,
    *,
    lock_milliseconds: int,
    statement_milliseconds: int,
    planned_once: bool = False,
) -> Transaction:
    """Return a transaction, to begin at once, whose lock waits and statements are limited.

    With `planned_once`, each of its statements is planned once in a session, by index: for look-ups
    by keys, and not on a cluster, where Citus needs the arguments to plan. In a savepoint all of
    this lasts until the end of the transaction around it.
    """
    cast("LimitingConnection", connection).limit_next_transaction(
        lock_milliseconds=lock_milliseconds,
        statement_milliseconds=statement_milliseconds,
        planned_once=planned_once,
    )
    return connection.transaction()


async def _prepare_connection(connection: Connection) -> None:
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: msgspec.json.encode(value).decode(),
        decoder=msgspec.json.decode,
    )


async def _skip_reset(_connection: Connection) -> None:
    """Do not reset a session when its connection is released.

    asyncpg would send RESET ALL, UNLISTEN and others: a round trip before the callers of a shared
    commit get their results. None of our statements changes its session, which
    tests/architecture/test_sql.py checks; an open transaction is rolled back first.
    """


async def connect(
    database_url: str,
    *,
    application_name: str,
    statement_seconds_max: int = STATEMENT_SECONDS_MAX,
) -> asyncpg.Connection[asyncpg.Record]:
    """Open one connection with the usual settings; statements may get a longer time limit."""
    try:
        connection = await asyncpg.connect(
            database_url,
            connection_class=LimitingConnection,
            timeout=CONNECT_SECONDS_MAX,
            # Longer than the server's own limit: for a server that is frozen or gone.
            command_timeout=statement_seconds_max + SERVER_SECONDS_MAX,
            server_settings={
                **_SERVER_SETTINGS,
                **LIMITS,
                "application_name": application_name,
                "statement_timeout": f"{statement_seconds_max}s",
            },
        )
    except asyncpg.ProtocolViolationError as error:
        raise _pooler_error(error) from error
    await _prepare_connection(connection)
    return connection


def _pooler_error(error: asyncpg.ProtocolViolationError) -> Exception:
    """Return what a refused start-up parameter means: only a pooler refuses the usual settings."""
    if "startup parameter" not in str(error):
        return error
    return ConfigError(
        "PREPAID_DIRECT_DATABASE_URL",
        "is needed, since DATABASE_URL leads through a pooler. Set it to PostgreSQL's own address",
    )


async def close(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Close a connection of `connect`; terminate it where the server does not answer."""
    try:
        await connection.close(timeout=CLOSE_SECONDS_MAX)
    except UNAVAILABLE:
        connection.terminate()


def create_pool(
    database_url: str, *, size: int, application_name: str, pooled: bool = False
) -> Pool:
    """Return a pool that opens on first use (`await pool` or `async with pool`).

    The pool starts while PostgreSQL is unavailable, and recovers by itself. Where the URL is
    `pooled`, by PgBouncer in transaction mode, no statement is prepared under a name, since the
    next transaction may have another session.
    """
    return asyncpg.create_pool(
        database_url,
        connection_class=LimitingConnection,
        min_size=0,
        max_size=size,
        timeout=CONNECT_SECONDS_MAX,
        command_timeout=STATEMENT_SECONDS_MAX + SERVER_SECONDS_MAX,
        max_inactive_connection_lifetime=300,
        init=_prepare_connection,
        reset=_skip_reset,
        statement_cache_size=0 if pooled else _CACHED_STATEMENTS_MAX,
        server_settings={
            **_SERVER_SETTINGS,
            **({} if pooled else LIMITS),
            "application_name": application_name,
        },
    )
