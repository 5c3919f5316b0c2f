"""The loop that posts expirations, and announces grants that expire soon."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from shared.db.pool import AWAY
from shared.ledger import service as ledger
from worker.clock import repeat

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from shared.db.pool import Pool

log = structlog.get_logger()

INTERVAL_SECONDS = 5.0


class Expirer:
    """Posts expirations of grants and holds within seconds of their time.

    Every posting first expires what is due in its organization, so that expired credits are never
    spent; this loop covers organizations without postings. Several instances are safe: under the
    account's lock, nothing is due for the second.

    An organization whose expirations cannot be posted is logged once and does not stop the others.
    """

    def __init__(self, pool: Pool, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._pool = pool
        self._interval_seconds = interval_seconds
        self._failing: set[UUID] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Expire until `stop` is set. Survives outages of PostgreSQL."""
        await repeat(
            "expirer",
            self.run_once,
            stop,
            interval_seconds=self._interval_seconds,
            interruptible=True,
        )

    async def run_once(self) -> None:
        """Expire what is due, and announce what is due soon."""
        try:
            await self.expire()
        finally:
            await self.announce()

    async def expire(self) -> int:
        """Expire all that is due; return the number of organizations.

        Raises the error of an organization that fails, after all others are done.
        """
        expired = 0
        while True:
            try:
                count = await self._expire()
            except AWAY:
                raise
            except Exception as error:
                count = await self._expire_one_by_one()
                if count == 0:
                    raise error from None
            if count == 0:
                return expired
            expired += count
            log.info("expirer.expired", organizations=count)

    async def _expire(self, among: Sequence[UUID] | None = None) -> int:
        async with self._pool.acquire() as connection, connection.transaction():
            return await ledger.post_expirations(connection, among=among)

    async def _expire_one_by_one(self) -> int:
        """Expire each organization in a transaction of its own; log each failing one once."""
        async with self._pool.acquire() as connection:
            due = await ledger.due(connection)
        expired = 0
        for organization_id in due:
            try:
                expired += await self._expire([organization_id])
            except AWAY:
                raise
            except Exception:
                if organization_id not in self._failing:
                    log.exception("expirer.failed", organization_id=str(organization_id))
                self._failing.add(organization_id)
            else:
                self._failing.discard(organization_id)
        return expired

    async def announce(self) -> int:
        """Announce the grants that expire soon; return their number."""
        async with self._pool.acquire() as connection, connection.transaction():
            return await ledger.announce_expiring(connection, now=datetime.now(UTC))
