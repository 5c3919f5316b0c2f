"""All SQL of statements."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from shared.db.queries import beside
from shared.ledger.model import TransactionType
from shared.statements.model import CategoryTotal, Position, Total

if TYPE_CHECKING:
    from shared.db.pool import Connection

QUERIES = beside(__file__)


async def finish_postings(connection: Connection, organization_id: UUID) -> None:
    """Wait until no posting of an organization is in progress."""
    await connection.execute(QUERIES.finish_postings, organization_id)


async def position(connection: Connection, organization_id: UUID, before: datetime) -> Position:
    """Return where a ledger was directly before a moment."""
    row = await connection.fetchrow(QUERIES.position, organization_id, before)
    assert row is not None  # noqa: S101 - it has a row for every organization
    return Position(row["seq"], row["balance"], row["hash"])


async def totals(
    connection: Connection,
    organization_id: UUID,
    *,
    after: int,
    through: int,
    categories_max: int,
) -> list[tuple[TransactionType, CategoryTotal]]:
    """Return the sums of rows by type and, for usage, category."""
    rows = await connection.fetch(QUERIES.totals, organization_id, after, through, categories_max)
    return [
        (
            TransactionType(row["type"]),
            CategoryTotal(
                row["category"], Total(row["amount"], row["transactions"]), row["is_rest"]
            ),
        )
        for row in rows
    ]
