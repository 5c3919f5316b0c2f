"""Forgets what nobody asks for again, on a clock: old answers, sessions, payloads of events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.access import sessions
from shared.durations import Duration
from shared.idempotency import store
from shared.inbox import store as inbox
from worker.clock import repeat

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

INTERVAL_SECONDS = 600.0
KEPT = timedelta(days=7)
SESSIONS_KEPT = timedelta(hours=1)
BATCH_ROWS_MAX = 1_000
PAYLOADS_ROWS_MAX = 200


class Forgetter:
    """Deletes answers of Idempotency-Keys after a week, ended sessions, and payloads of events.

    Transactions, holds and grants depend on neither: their ids stand on the ledger for ever. An
    event loses its payload some time (`retention`; None is never) after it was settled, and
    its client secrets at once where a release that stored them has left them.
    """

    def __init__(
        self,
        pool: Pool,
        interval_seconds: float = INTERVAL_SECONDS,
        *,
        retention: Duration | None = None,
        payloads_rows_max: int = PAYLOADS_ROWS_MAX,
    ) -> None:
        self._pool = pool
        self._interval_seconds = interval_seconds
        self._retention = retention
        self._payloads_rows_max = payloads_rows_max

    async def run(self, stop: asyncio.Event) -> None:
        """Forget until `stop` is set. PostgreSQL being away is waited out."""
        await repeat("forgetter", self.forget, stop, interval_seconds=self._interval_seconds)

    async def forget(self) -> int:
        """Forget everything that is old by now; return how many rows that were."""
        return (
            await self._in_batches(self._answers, BATCH_ROWS_MAX)
            + await self._in_batches(self._sessions, BATCH_ROWS_MAX)
            + await self._in_batches(self._client_secrets, self._payloads_rows_max)
            + await self._in_batches(self._payloads, self._payloads_rows_max)
        )

    async def _in_batches(
        self, forget: Callable[[Connection, int], Awaitable[int]], rows_max: int
    ) -> int:
        forgotten = 0
        while True:
            async with self._pool.acquire() as connection:
                count = await forget(connection, rows_max)
            forgotten += count
            if count < rows_max:
                return forgotten

    async def _answers(self, connection: Connection, rows_max: int) -> int:
        return await store.purge(connection, KEPT, rows_max=rows_max)

    async def _sessions(self, connection: Connection, rows_max: int) -> int:
        return await sessions.purge(connection, SESSIONS_KEPT, rows_max=rows_max)

    async def _client_secrets(self, connection: Connection, rows_max: int) -> int:
        return await inbox.remove_client_secrets(connection, rows_max=rows_max)

    async def _payloads(self, connection: Connection, rows_max: int) -> int:
        if self._retention is None:
            return 0
        return await inbox.forget_payloads(connection, self._retention, rows_max=rows_max)
