"""On which node of a cluster an organization is, so that a shared batch is of one node."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import structlog

from shared.db.pool import UNAVAILABLE
from shared.ledger import shards, store
from shared.ledger.shards import Shard

if TYPE_CHECKING:
    from shared.db.pool import Pool

log = structlog.get_logger()

READ_AGAIN_SECONDS = 60.0


class Nodes:
    """The nodes of organizations, read from the shards of a cluster in the background.

    On one PostgreSQL, and until the shards are read, all organizations are on one node, `None`. A
    shard that has moved is known within a minute: until then a batch may be of two nodes, and is
    posted all the same.
    """

    def __init__(self, pool: Pool, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._clock = clock
        self._shards: Sequence[Shard] = ()
        self._read_at: float | None = None
        self._reading: asyncio.Task[None] | None = None

    def node_of(self, organization_id: UUID) -> str | None:
        """Return the node of an organization, as it was read last."""
        return shards.node_of(self._shards, organization_id) if self._shards else None

    def keep_current(self) -> None:
        """Read the shards again where that was longer ago than a minute; does not wait."""
        now = self._clock()
        if self._read_at is None or now - self._read_at >= READ_AGAIN_SECONDS:
            self._read_at = now
            self._reading = asyncio.create_task(self._read())

    async def close(self) -> None:
        """Wait for a reading in progress."""
        if self._reading is not None:
            await self._reading

    async def _read(self) -> None:
        try:
            async with self._pool.acquire() as connection:
                found = await store.shards(connection)
        except (*UNAVAILABLE, asyncpg.PostgresError) as error:
            log.warning("ledger.shards_not_read", error=str(error))
            return
        self._shards = found
