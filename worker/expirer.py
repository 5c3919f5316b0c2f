"""Settles what has expired, on a clock, and tells of what soon will."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from shared.db.pool import UNAVAILABLE
from shared.ledger import service as ledger
from worker.clock import repeat

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from shared.db.pool import Pool

log = structlog.get_logger()

INTERVAL_SECONDS = 5.0


class Expirer:
    """Posts expirations at most some seconds after their moment.

    A posting settles what is due in its organization by itself, so that nobody can spend what has
    expired; this is for the organizations at rest. Two of these at once do no harm: the second
    finds nothing due under the account's lock.

    An organization whose expirations cannot be posted is logged, and stops no other's.
    """

    def __init__(self, pool: Pool, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._pool = pool
        self._interval_seconds = interval_seconds
        self._failing: set[UUID] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Settle until `stop` is set. PostgreSQL being away is waited out."""
        await repeat("expirer", self.look, stop, interval_seconds=self._interval_seconds)

    async def look(self) -> None:
        """Settle what is due, and tell of what will be."""
        try:
            await self.settle()
        finally:
            await self.tell()

    async def settle(self) -> int:
        """Settle everything that is due now; return how many organizations that were.

        Raises the error of an organization that cannot be settled, after all others are.
        """
        settled = 0
        while True:
            try:
                count = await self._settle()
            except UNAVAILABLE:
                raise
            except Exception as error:
                count = await self._settle_one_by_one()
                if count == 0:
                    raise error from None
            if count == 0:
                return settled
            settled += count
            log.info("expirer.settled", organizations=count)

    async def _settle(self, among: Sequence[UUID] | None = None) -> int:
        async with self._pool.acquire() as connection, connection.transaction():
            return await ledger.post_expirations(connection, among=among)

    async def _settle_one_by_one(self) -> int:
        """Settle each organization in a transaction of its own; log each failing one once."""
        async with self._pool.acquire() as connection:
            due = await ledger.due(connection)
        settled = 0
        for organization_id in due:
            try:
                settled += await self._settle([organization_id])
            except UNAVAILABLE:
                raise
            except Exception:
                if organization_id not in self._failing:
                    log.exception("expirer.failed", organization_id=str(organization_id))
                self._failing.add(organization_id)
            else:
                self._failing.discard(organization_id)
        return settled

    async def tell(self) -> int:
        """Announce what will expire soon; return how many grants that were."""
        async with self._pool.acquire() as connection, connection.transaction():
            return await ledger.announce_expiring(connection, now=datetime.now(UTC))
