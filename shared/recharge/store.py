"""The SQL of auto-recharge."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from shared.db.queries import beside
from shared.recharge.model import SuspensionReason

if TYPE_CHECKING:
    from shared.db.pool import Connection

QUERIES = beside(__file__)


async def suspend(
    connection: Connection,
    organization_id: UUID,
    reason: SuspensionReason,
    detail: str,
    *,
    until: datetime | None,
    fingerprint: str | None,
) -> bool:
    """Suspend what may charge; return whether anything changed."""
    row = await connection.fetchrow(
        QUERIES.suspend, organization_id, reason, detail, until, fingerprint
    )
    return row is not None


async def resume(
    connection: Connection, organization_id: UUID, reasons: Collection[SuspensionReason]
) -> bool:
    """End a suspension for one of these reasons; return whether anything changed."""
    return await connection.fetchrow(QUERIES.resume, organization_id, list(reasons)) is not None


async def ring(connection: Connection, payment_intent_ids: Sequence[str]) -> None:
    """Have a worker look at the live attempts of these payments now."""
    await connection.execute(QUERIES.ring, list(payment_intent_ids))
