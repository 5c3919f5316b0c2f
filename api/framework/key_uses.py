"""The time of each API key's last use, written asynchronously."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import structlog

from shared.access import service as access
from shared.db.deadline import in_time
from shared.db.pool import UNAVAILABLE
from shared.ttl_cache import TTLCache

if TYPE_CHECKING:
    from shared.db.pool import Pool

log = structlog.get_logger()

WRITE_INTERVAL_SECONDS = 5.0
WRITE_SECONDS_MAX = 2.0
KEYS_AT_ONCE_MAX = 1_000


class KeyUses:
    """Collects uses and writes them in batches, each key at most once a minute.

    No request waits for a write. A use that cannot be written is dropped.
    """

    def __init__(self, pool: Pool, *, interval_seconds: float = WRITE_INTERVAL_SECONDS) -> None:
        self._pool = pool
        self._interval_seconds = interval_seconds
        self._written: TTLCache[UUID, bool] = TTLCache(access.USED_SECONDS_MIN)
        self._waiting: dict[UUID, datetime] = {}
        self._writing: asyncio.Task[None] | None = None

    def add(self, key_id: UUID, now: datetime) -> None:
        """Add a use."""
        if self._written.get(key_id) or len(self._waiting) >= KEYS_AT_ONCE_MAX:
            return
        self._written.put(key_id, True)  # noqa: FBT003 - the value means "was used"
        self._waiting[key_id] = now
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_later())

    async def write(self) -> None:
        """Write the collected uses in one statement."""
        uses, self._waiting = self._waiting, {}
        if not uses:
            return
        try:
            await in_time(self._write(uses), WRITE_SECONDS_MAX)
        except (*UNAVAILABLE, asyncpg.PostgresError) as error:
            log.warning("keys.uses_not_written", error=repr(error), keys=len(uses))

    async def _write(self, uses: dict[UUID, datetime]) -> None:
        async with self._pool.acquire() as connection:
            await access.record_uses(connection, uses)

    async def close(self) -> None:
        """Write the remaining uses."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
            self._writing = None
        await self.write()

    async def _write_later(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(self._interval_seconds)
                await self.write()
        finally:
            self._writing = None
