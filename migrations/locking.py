"""How a migration waits for locks: briefly at the head of a lock queue, and with a limit in all.

A session that waits for a strong lock blocks all sessions behind it in the queue, even those that
do not conflict with the holder. So each step gives up after a second, rolls back and retries.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
from sqlalchemy.exc import DBAPIError

from shared.errors import UnavailableError

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

# Two processes that migrate at once (a rolling deploy) take turns on this advisory lock.
MIGRATION_LOCK = 7_221_733
LOCK_SECONDS_MAX = 1.0
WAIT_SECONDS_MAX = 600.0
PAUSE_SECONDS_MIN = 0.5
PAUSE_SECONDS_MAX = 10.0

_RETRIED = (asyncpg.LockNotAvailableError.sqlstate, asyncpg.DeadlockDetectedError.sqlstate)
_OLDEST_TRANSACTION = """
SELECT format(
    'process %s (%s), open for %s s',
    pid,
    coalesce(nullif(application_name, ''), usename),
    extract(EPOCH FROM now() - xact_start)::integer
)
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
ORDER BY xact_start
LIMIT 1
"""


class LockRetrier:
    """Retries steps while locks are not available, for a limited number of seconds in all."""

    def __init__(
        self, connection: Connection, seconds_max: float, report: Callable[[str], None]
    ) -> None:
        self._connection = connection
        self._seconds_max = seconds_max
        self._report = report
        self._seconds_waited = 0.0

    async def run(self, name: str, step: Callable[[], Awaitable[None]]) -> None:
        """Run a step, retried on lock timeouts and deadlocks; a failed one must leave no trace.

        Raises UnavailableError once the time for all steps is used up.
        """
        pause = PAUSE_SECONDS_MIN
        while True:
            began = time.monotonic()
            try:
                await step()
            except (asyncpg.PostgresError, DBAPIError) as error:
                if _sqlstate(error) not in _RETRIED:
                    raise
            else:
                return
            await self._pause(name, pause, began)
            pause = min(pause * 2, PAUSE_SECONDS_MAX)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Hold the advisory lock of migrations, for this session.

        It is polled, since a session that waits inside a statement has a snapshot, and the holder
        may be building an index, for which it waits until there is no older snapshot.
        """
        while True:
            began = time.monotonic()
            if await self._connection.fetchval("SELECT pg_try_advisory_lock($1)", MIGRATION_LOCK):
                break
            await self._pause("another prepaid migrate that is running", PAUSE_SECONDS_MIN, began)
        try:
            yield
        finally:
            if not self._connection.is_closed():
                await self._connection.execute(f"SELECT pg_advisory_unlock({MIGRATION_LOCK})")

    async def _pause(self, name: str, seconds: float, began: float) -> None:
        if self._seconds_waited >= self._seconds_max:
            oldest = await self._connection.fetchval(_OLDEST_TRANSACTION)
            raise UnavailableError(
                f"The migration has waited {self._seconds_max:g} s in all, at last for {name}."
                " What is done stays done: run prepaid migrate again."
                f" The oldest open transaction: {oldest or 'none'}."
            )
        self._report(f"waiting for {name}")
        await asyncio.sleep(seconds)
        self._seconds_waited += time.monotonic() - began


def _sqlstate(error: asyncpg.PostgresError | DBAPIError) -> str | None:
    """Return the code of an error, whether it comes from the driver or through SQLAlchemy."""
    return getattr(error.orig if isinstance(error, DBAPIError) else error, "sqlstate", None)
