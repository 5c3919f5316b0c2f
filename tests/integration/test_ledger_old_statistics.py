"""Posting while PostgreSQL's statistics are those of an installation with one account."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from shared.ledger import service
from shared.ledger.model import Posting, PostingStatus
from tests.fixtures.ledger import grant, usage
from tests.fixtures.product import create_organization

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool
    from shared.organizations.model import Organization

ORGANIZATIONS = 300
BATCH = 10
# Locks, decisions, writes and foreign keys look up each account of a batch some times.
ROWS_OF_POSTING_MAX = 20
ROWS_READ = """
SELECT sum(seq_tup_read + idx_tup_fetch)::integer
FROM pg_stat_xact_user_tables
WHERE relname IN ('accounts', 'credit_grants')
"""


async def rows_read(connection: Connection, postings: Sequence[Posting]) -> int:
    """Post; return how many rows of accounts and grants were read for it."""
    async with connection.transaction():
        before: int = await connection.fetchval(ROWS_READ)
        results = await service.post(connection, postings)
        after: int = await connection.fetchval(ROWS_READ)
    assert {result.status for result in results} == {PostingStatus.POSTED}
    return after - before


@pytest.mark.parametrize("kind", ["grants", "first debits", "later debits"])
async def test_plans_made_with_one_account_do_not_scan_all_that_came_later(
    pool: Pool, organization: Organization, kind: str
) -> None:
    """The check of a foreign key read all accounts for each row until the next ANALYZE."""
    await pool.execute("ALTER TABLE accounts SET (autovacuum_enabled = off)")
    await pool.execute("ALTER TABLE credit_grants SET (autovacuum_enabled = off)")
    async with pool.acquire() as connection:
        await service.post(connection, [grant(organization, 100), usage(organization, 1)])
        await connection.execute("ANALYZE accounts, credit_grants")
        for _ in range(8):  # a plan is made for good after some executions
            await service.post(connection, [grant(organization, 1)])
            await service.post(connection, [usage(organization, 1)])
        owners = [await create_organization(pool, f"later-{n}") for n in range(ORGANIZATIONS)]
        if kind != "grants":
            await service.post(connection, [grant(owner, 100) for owner in owners])
        if kind == "later debits":
            await service.post(connection, [usage(owner, 1) for owner in owners])
        batch = owners[:BATCH]
        postings = [grant(o, 1) if kind == "grants" else usage(o, 1) for o in batch]
        assert await rows_read(connection, postings) <= len(postings) * ROWS_OF_POSTING_MAX
