"""Balances for many readers at once: those that come together share one round trip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from shared.db.group_commit import GroupCommit
from shared.ledger import store
from shared.ledger.model import Balance

if TYPE_CHECKING:
    from shared.db.pool import Pool

READS_AT_ONCE_MAX = 2
BATCH_ROWS_MAX = 500


class Balances:
    """Reads balances. A reader sees every posting that was answered before it asked."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._reads = GroupCommit[UUID, Balance | None](
            self._flush, flushes_at_once_max=READS_AT_ONCE_MAX, batch_rows_max=BATCH_ROWS_MAX
        )

    async def read(self, organization_id: UUID) -> Balance | None:
        """Return what an organization owns now; None where there is no such organization."""
        return await self._reads.submit(organization_id)

    async def close(self) -> None:
        """Wait for the reads that are under way."""
        await self._reads.drain()

    async def _flush(self, asked: Sequence[UUID]) -> list[Balance | Exception | None]:
        async with self._pool.acquire() as connection:
            found = await store.balances(connection, list(set(asked)))
        return [found.get(organization_id) for organization_id in asked]
