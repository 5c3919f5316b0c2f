"""The loops that delete old data: idempotency keys, sessions, samples, payloads, replays."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from shared.access import sessions
from shared.access.console import store as console_sessions
from shared.durations import Duration
from shared.idempotency import store
from shared.inbox.retention import store as payloads
from shared.replay import store as replays
from shared.samples import store as samples
from shared.samples.model import SAMPLE_RETENTION
from worker.clock import repeat

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

INTERVAL_SECONDS = 600.0
KEY_RETENTION = timedelta(days=7)
SESSION_RETENTION = timedelta(hours=1)
REPLAY_RETENTION = timedelta(days=90)
BATCH_ROWS_MAX = 1_000
PAYLOADS_ROWS_MAX = 200


class IdempotencyKeyCleaner:
    """Deletes idempotency keys and their responses after a week.

    Transactions, holds and grants do not depend on them: the ledger never deletes its own keys.
    """

    def __init__(self, pool: Pool, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._pool = pool
        self._interval_seconds = interval_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """Clean until `stop` is set. Survives outages of PostgreSQL."""
        await repeat(
            "idempotency_key_cleaner", self.clean, stop, interval_seconds=self._interval_seconds
        )

    async def clean(self) -> int:
        """Delete every key that is old enough; return the number of rows."""
        return await in_batches(self._pool, self._delete, BATCH_ROWS_MAX)

    async def _delete(self, connection: Connection, *, rows_max: int) -> int:
        return await store.purge(connection, KEY_RETENTION, rows_max=rows_max)


class SessionCleaner:
    """Deletes sessions of browsers and of the console an hour after they ended."""

    def __init__(self, pool: Pool, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._pool = pool
        self._interval_seconds = interval_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """Clean until `stop` is set. Survives outages of PostgreSQL."""
        await repeat("session_cleaner", self.clean, stop, interval_seconds=self._interval_seconds)

    async def clean(self) -> int:
        """Delete every session that ended long enough ago; return the number of rows."""
        console = partial(console_sessions.purge, retention=SESSION_RETENTION)
        deleted = await in_batches(self._pool, console, BATCH_ROWS_MAX)
        return deleted + await in_batches(self._pool, self._delete, BATCH_ROWS_MAX)

    async def _delete(self, connection: Connection, *, rows_max: int) -> int:
        return await sessions.purge(connection, SESSION_RETENTION, rows_max=rows_max)


class SampleCleaner:
    """Deletes samples after two weeks."""

    def __init__(
        self,
        pool: Pool,
        interval_seconds: float = INTERVAL_SECONDS,
        *,
        rows_max: int = BATCH_ROWS_MAX,
    ) -> None:
        self._pool = pool
        self._interval_seconds = interval_seconds
        self._rows_max = rows_max

    async def run(self, stop: asyncio.Event) -> None:
        """Clean until `stop` is set. Survives outages of PostgreSQL."""
        await repeat("sample_cleaner", self.clean, stop, interval_seconds=self._interval_seconds)

    async def clean(self) -> int:
        """Delete every sample that is old enough; return how many rows those were."""
        return await in_batches(self._pool, self._delete, self._rows_max)

    async def _delete(self, connection: Connection, *, rows_max: int) -> int:
        return await samples.purge(connection, SAMPLE_RETENTION, rows_max=rows_max)


class PayloadCleaner:
    """Deletes payloads of finished events after `retention` (None: never).

    Also removes client secrets at once from events that an older release stored with them.
    """

    def __init__(
        self,
        pool: Pool,
        interval_seconds: float = INTERVAL_SECONDS,
        *,
        retention: Duration | None = None,
        rows_max: int = PAYLOADS_ROWS_MAX,
    ) -> None:
        self._pool = pool
        self._interval_seconds = interval_seconds
        self._retention = retention
        self._rows_max = rows_max

    async def run(self, stop: asyncio.Event) -> None:
        """Clean until `stop` is set. Survives outages of PostgreSQL."""
        await repeat("payload_cleaner", self.clean, stop, interval_seconds=self._interval_seconds)

    async def clean(self) -> int:
        """Remove client secrets and old payloads; return the number of changed events."""
        cleaned = await in_batches(self._pool, payloads.remove_client_secrets, self._rows_max)
        if self._retention is None:
            return cleaned
        delete = partial(payloads.delete_payloads, retention=self._retention)
        return cleaned + await in_batches(self._pool, delete, self._rows_max)


class ReplayCleaner:
    """Deletes finished replays, and what they changed in their reports, after 90 days.

    A stopped one stays, so that it can be resumed; the audit log and the ledger keep the rest.
    """

    def __init__(
        self,
        pool: Pool,
        interval_seconds: float = INTERVAL_SECONDS,
        *,
        rows_max: int = BATCH_ROWS_MAX,
    ) -> None:
        self._pool = pool
        self._interval_seconds = interval_seconds
        self._rows_max = rows_max

    async def run(self, stop: asyncio.Event) -> None:
        """Clean until `stop` is set. Survives outages of PostgreSQL."""
        await repeat("replay_cleaner", self.clean, stop, interval_seconds=self._interval_seconds)

    async def clean(self) -> int:
        """Delete every replay that is old enough; return how many rows those were."""
        changes = partial(replays.purge_changes, retention=REPLAY_RETENTION)
        deleted = await in_batches(self._pool, changes, self._rows_max)
        batches = partial(replays.purge_batches, retention=REPLAY_RETENTION)
        return deleted + await in_batches(self._pool, batches, self._rows_max)


async def in_batches(pool: Pool, delete: Callable[..., Awaitable[int]], rows_max: int) -> int:
    """Delete in transactions of at most `rows_max` rows; return the total number."""
    deleted = 0
    while True:
        async with pool.acquire() as connection:
            count = await delete(connection, rows_max=rows_max)
        deleted += count
        if count < rows_max:
            return deleted
