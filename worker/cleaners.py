"""The loops that delete old data: keys, sessions, samples, payloads, replays, counters."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from shared import metrics
from shared.access import sessions
from shared.access.console import store as console_sessions
from shared.budgets import store as budgets
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


# Deletes up to `rows_max` rows in a transaction, and returns how many.
Delete = Callable[..., Awaitable[int]]
# Returns when the oldest row ended that is still to be cleared.
Oldest = Callable[["Connection"], Awaitable[datetime | None]]


class Cleaner:
    """A loop that deletes what is old enough, step by step, in transactions of few rows."""

    name: ClassVar[str]
    steps: ClassVar[Sequence[Delete]] = ()
    rows_max: ClassVar[int] = BATCH_ROWS_MAX

    def __init__(
        self,
        pool: Pool,
        interval_seconds: float = INTERVAL_SECONDS,
        *,
        rows_max: int | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._pool = pool
        self._interval_seconds = interval_seconds
        self._rows_max = rows_max or self.rows_max
        self._now = now

    async def run(self, stop: asyncio.Event) -> None:
        """Clean until `stop` is set. Survives outages of PostgreSQL."""
        await repeat(
            self.name, self.clean, stop, interval_seconds=self._interval_seconds, interruptible=True
        )

    async def clean(self) -> int:
        """Delete everything that is old enough; return the number of rows."""
        return sum([await self.delete(step) for step in self.steps])

    async def delete(self, step: Delete) -> int:
        """Repeat a step until it deletes less than it may; return the number of rows."""
        deleted = 0
        while True:
            async with self._pool.acquire() as connection:
                count = await step(connection, rows_max=self._rows_max)
            deleted += count
            if count < self._rows_max:
                return deleted

    async def clear(self, kind: str, step: Delete, oldest: Oldest) -> int:
        """Delete as `delete` does, count it as `kind`, and measure the oldest row that stays."""
        count = await self.delete(step)
        metrics.RETENTION_CLEARED.labels(kind).inc(count)
        async with self._pool.acquire() as connection:
            time = await oldest(connection)
        age = 0.0 if time is None else (self._now() - time).total_seconds()
        metrics.RETENTION_OLDEST_SECONDS.labels(kind).set(age)
        return count


class IdempotencyKeyCleaner(Cleaner):
    """Deletes idempotency keys and their responses after a week.

    Transactions, holds and grants do not depend on them: the ledger never deletes its own keys.
    """

    name = "idempotency_key_cleaner"
    steps = (partial(store.purge, retention=KEY_RETENTION),)


class SessionCleaner(Cleaner):
    """Deletes sessions of browsers and of the console an hour after they ended."""

    name = "session_cleaner"
    steps = (
        partial(console_sessions.purge, retention=SESSION_RETENTION),
        partial(sessions.purge, retention=SESSION_RETENTION),
    )


class SampleCleaner(Cleaner):
    """Deletes samples after two weeks."""

    name = "sample_cleaner"
    steps = (partial(samples.purge, retention=SAMPLE_RETENTION),)


class BudgetCleaner(Cleaner):
    """Deletes counters of windows that have ended, and budgets that were removed."""

    name = "budget_cleaner"
    steps = (budgets.purge_windows, budgets.purge_removed_counters, budgets.purge_removed)


class PayloadCleaner(Cleaner):
    """Deletes payloads of finished events after `retention` (None: never).

    Also removes client secrets at once from events that an older release stored with them.
    """

    name = "payload_cleaner"
    rows_max = PAYLOADS_ROWS_MAX

    def __init__(
        self,
        pool: Pool,
        interval_seconds: float = INTERVAL_SECONDS,
        *,
        retention: Duration | None = None,
        rows_max: int | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(pool, interval_seconds, rows_max=rows_max, now=now)
        self._retention = retention

    async def clean(self) -> int:
        """Clear everything that is old enough, and measure the rest; return the number of rows."""
        cleared = await self.delete(payloads.remove_client_secrets)
        if self._retention is not None:
            old = partial(payloads.delete_payloads, retention=self._retention)
            cleared += await self.clear("payloads", old, payloads.oldest_payload)
        return cleared


class ReplayCleaner(Cleaner):
    """Deletes finished replays, and what they changed in their reports, after 90 days.

    A stopped one stays, so that it can be resumed; the audit log and the ledger keep the rest.
    """

    name = "replay_cleaner"
    steps = (
        partial(replays.purge_changes, retention=REPLAY_RETENTION),
        partial(replays.purge_batches, retention=REPLAY_RETENTION),
    )
