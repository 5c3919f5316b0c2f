"""Empties the inbox: claims batches under a lease and has them applied, until nothing is due."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from shared.events.service import Applier, LeaseLostError
from shared.inbox import store

if TYPE_CHECKING:
    from shared.db.pool import Pool

log = structlog.get_logger()

BATCH_ROWS_MAX = 200
LEASE_SECONDS = 30
DRAINS_AT_ONCE_MAX = 3


class Drainer:
    """One of these a process. Any number of drains, here and elsewhere, share the inbox safely."""

    def __init__(
        self,
        pool: Pool,
        applier: Applier,
        make_token: Callable[[], UUID],
        lease: timedelta = timedelta(seconds=LEASE_SECONDS),
    ) -> None:
        self._pool = pool
        self._applier = applier
        self._make_token = make_token
        self._lease = lease
        self._slots = asyncio.Semaphore(DRAINS_AT_ONCE_MAX)
        self._stopping = False

    def stop(self) -> None:
        """End every drain after the batch that it is at."""
        self._stopping = True

    async def drain(self) -> int:
        """Apply everything that is due now; return how many events were taken.

        An event that was committed before the call is taken by this drain, or is under the lease of
        another. Raises what PostgreSQL raises when it is away.
        """
        taken = 0
        async with self._slots:
            while not self._stopping and (count := await self._drain_batch()):
                taken += count
        return taken

    async def _drain_batch(self) -> int:
        token = self._make_token()
        async with self._pool.acquire() as connection:
            events = await store.claim(
                connection, rows_max=BATCH_ROWS_MAX, token=token, lease=self._lease
            )
        if not events:
            return 0
        try:
            await self._applier.apply(token, events)
        except LeaseLostError:
            log.warning("drainer.lease_lost", events=len(events))
        return len(events)
