"""Settles what has expired, on a clock, and tells of what soon will."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from shared.ledger import service as ledger
from worker.clock import repeat

if TYPE_CHECKING:
    from shared.db.pool import Pool

log = structlog.get_logger()

INTERVAL_SECONDS = 5.0


class Expirer:
    """Posts expirations at most some seconds after their moment.

    A posting settles what is due in its organization by itself, so that nobody can spend what has
    expired; this is for the organizations at rest. Two of these at once do no harm: the second
    finds nothing due under the account's lock.
    """

    def __init__(self, pool: Pool, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._pool = pool
        self._interval_seconds = interval_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """Settle until `stop` is set. PostgreSQL being away is waited out."""
        await repeat("expirer", self.look, stop, interval_seconds=self._interval_seconds)

    async def look(self) -> None:
        """Settle what is due, and tell of what will be."""
        await self.settle()
        await self.tell()

    async def settle(self) -> int:
        """Settle everything that is due now; return how many organizations that were."""
        settled = 0
        while True:
            async with self._pool.acquire() as connection, connection.transaction():
                count = await ledger.settle_due(connection)
            if count == 0:
                return settled
            settled += count
            log.info("expirer.settled", organizations=count)

    async def tell(self) -> int:
        """Announce what will expire soon; return how many grants that were."""
        async with self._pool.acquire() as connection, connection.transaction():
            return await ledger.tell_expiring(connection, now=datetime.now(UTC))
