"""Balance reads: concurrent callers share one round trip."""

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


class Balances:
    """Batches reads of single balances.

    An idle caller is answered at once; under load one SELECT serves all callers that arrived during
    the last one. It begins after they called, so they read every write that was answered before.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._reads = GroupCommit[UUID, Balance | None](
            self._read, flushes_at_once_max=READS_AT_ONCE_MAX
        )

    async def read(self, organization_id: UUID) -> Balance | None:
        """Return the balance; None for an unknown organization."""
        return await self._reads.submit(organization_id)

    async def close(self) -> None:
        """Wait for the reads in progress."""
        await self._reads.drain()

    async def _read(self, organization_ids: Sequence[UUID]) -> list[Balance | Exception | None]:
        async with self._pool.acquire() as connection:
            balances = await store.balances(connection, sorted(set(organization_ids)))
        return [balances.get(organization_id) for organization_id in organization_ids]
