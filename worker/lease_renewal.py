"""Renews the lease of a batch while a worker works on it, so that a lease can be short.

A worker that was killed or is frozen renews nothing: another takes its events when the lease ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from shared import outages
from shared.db.pool import UNAVAILABLE
from shared.inbox import store

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.inbox.model import EventKey

log = structlog.get_logger()

RENEWALS_A_LEASE = 3
# Longer than a batch may take: only one that hangs loses its lease by it.
RENEWED_SECONDS_MAX = 180
END_SECONDS_MAX = 1


@asynccontextmanager
async def renewed(
    pool: Pool, token: UUID, keys: Sequence[EventKey], lease: timedelta
) -> AsyncIterator[None]:
    """Renew the lease on events three times a lease, until the block ends. Raises nothing."""
    renewal = asyncio.create_task(_renew(pool, token, keys, lease))
    try:
        yield
    finally:
        renewal.cancel()
        # A renewal whose server is frozen does not end: it is left behind.
        await asyncio.wait({renewal}, timeout=END_SECONDS_MAX)


async def _renew(pool: Pool, token: UUID, keys: Sequence[EventKey], lease: timedelta) -> None:
    interval = lease.total_seconds() / RENEWALS_A_LEASE
    for _ in range(int(RENEWED_SECONDS_MAX / interval)):
        await asyncio.sleep(interval)
        try:
            async with pool.acquire() as connection:
                await store.keep(connection, token, keys, lease)
        except UNAVAILABLE as error:
            if not outages.POSTGRES.failed(error):
                log.warning("drainer.lease_not_renewed", events=len(keys), error=repr(error))
