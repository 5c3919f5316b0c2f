"""An account with many rows that no verification has read: a round reads the newest of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.invariants.catalog import zero_sum
from shared.invariants.model import VIOLATIONS_MAX
from tests.fixtures.ledger import grant, post, tampering, usage

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

SUMMED_MAX = 10
ROWS_READ = (
    "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables"
    " WHERE relname = 'credit_transactions'"
)


async def test_the_sum_of_an_account_reads_a_bounded_number_of_rows(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 1_000))
    await post(pool, *(usage(organization, 1) for _ in range(60)))
    async with pool.acquire() as connection, connection.transaction():
        # A table of so few rows would be scanned, as none of this size is.
        await connection.execute("SET LOCAL enable_seqscan = off")
        before = await connection.fetchval(ROWS_READ)
        found = await zero_sum(connection, [organization.id], VIOLATIONS_MAX, SUMMED_MAX)
        read = await connection.fetchval(ROWS_READ) - before
    assert found == []
    assert read <= SUMMED_MAX + 1


async def test_a_changed_amount_among_the_newest_rows_breaks_the_sum(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 1_000))
    await post(pool, *(usage(organization, 1) for _ in range(60)))
    async with tampering(pool) as connection:
        await connection.execute("UPDATE credit_transactions SET amount = -2 WHERE seq = 55")
        found = await zero_sum(connection, [organization.id], VIOLATIONS_MAX, SUMMED_MAX)
    assert [row["organization_id"] for row in found] == [organization.id]
