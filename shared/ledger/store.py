"""The ledger's SQL, and nothing else that speaks SQL to the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from shared.db.queries import beside
from shared.ledger.model import Posting, PostingResult, PostingStatus

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__)


async def post(connection: Connection, postings: Sequence[Posting]) -> list[PostingResult]:
    """Run the posting function; the results come back in the order of the postings."""
    by_organization: dict[str, list[dict[str, Any]]] = {}
    for ordinal, posting in enumerate(postings):
        asked = msgspec.structs.asdict(posting) | {"ordinal": ordinal}
        by_organization.setdefault(str(asked.pop("organization_id")), []).append(asked)
    document = msgspec.json.encode(by_organization).decode()
    rows = await connection.fetch(QUERIES.post, document)
    results: list[PostingResult | None] = [None] * len(postings)
    for row in rows:
        organization_id = postings[row["ordinal"]].organization_id
        results[row["ordinal"]] = _result(organization_id, row)
    assert None not in results, "ledger_post answers every posting"  # noqa: S101 - a bug if not
    return [result for result in results if result is not None]


async def balance(connection: Connection, organization_id: UUID) -> asyncpg.Record | None:
    """Return the account's row, None where there is no such organization."""
    return await connection.fetchrow(QUERIES.balance, organization_id)


async def transaction_after(
    connection: Connection, organization_id: UUID, seq: int
) -> asyncpg.Record | None:
    """Return the first row of an organization after a given seq, if there is one."""
    return await connection.fetchrow(QUERIES.transaction_after, organization_id, seq)


def _result(organization_id: UUID, row: asyncpg.Record) -> PostingResult:
    return PostingResult(
        organization_id=organization_id,
        status=PostingStatus(row["status"]),
        amount=row["amount"],
        balance_after=row["balance_after"],
        id=row["id"],
        seq=row["seq"],
        created_at=row["created_at"],
    )
