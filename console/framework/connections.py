"""The console's share of the connections: pages never take those of the API and of webhooks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from shared.errors import UnavailableError

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

CONNECTIONS_MAX = 2
WAITING_MAX = 50


class ConnectionShare:
    """At most two connections of the pool at once; a limited number of pages waits for them."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._free = asyncio.Semaphore(CONNECTIONS_MAX)
        self._waiting = 0

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """Yield a connection; raise UnavailableError where too many pages wait for one."""
        if self._waiting >= WAITING_MAX:
            raise UnavailableError("Too many pages of the console are being opened. Try again.")
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
        try:
            async with self._pool.acquire() as connection:
                yield connection
        finally:
            self._free.release()
