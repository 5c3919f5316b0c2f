"""The hash chain of the ledger, and that nobody may change what it holds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.fixtures.hash_chain import chain
from tests.fixtures.ledger import keyed_posting, post
from tests.fixtures.product import create_organization, transactions

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

UPSERT = (
    "INSERT INTO credit_transactions SELECT * FROM credit_transactions"
    " ON CONFLICT (organization_id, seq) DO UPDATE SET amount = 1000"
)
MERGE = (
    "MERGE INTO credit_transactions AS t USING (SELECT 1) AS s (one) ON true"
    " WHEN MATCHED THEN DELETE"
)


async def test_the_hash_chain_can_be_recomputed_from_its_documented_form(
    pool: Pool, organization: Organization
) -> None:
    odd = 'ä "quoted" \\ back\n\t\x01\x7f \U0001f600 </script>'
    await post(
        pool,
        keyed_posting(
            organization, "k1", "10.000000001", description=odd, payment_intent_id="pi_1"
        ),
        keyed_posting(organization, odd, "-3", metadata={"long": odd, "b": "x", "a": "", "ä": "y"}),
    )
    await post(
        pool,
        keyed_posting(
            organization, "k3", 1, effective_at=datetime(1969, 7, 20, 20, 17, 40, 1, tzinfo=UTC)
        ),
    )
    rows = await transactions(pool)
    assert [row["hash"] for row in rows] == chain(rows)
    last = await pool.fetchval("SELECT last_hash FROM accounts")
    assert last == rows[-1]["hash"]


async def test_each_organization_has_a_chain_of_its_own(
    pool: Pool, organization: Organization
) -> None:
    other = await create_organization(pool, "other")
    for n in range(3):
        await post(pool, keyed_posting(organization, f"k{n}", 1), keyed_posting(other, f"k{n}", 2))
    for owner in (organization, other):
        rows = [r for r in await transactions(pool) if r["organization_id"] == owner.id]
        assert [row["hash"] for row in rows] == chain(rows)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE credit_transactions SET amount = 1000",
        "UPDATE credit_transactions SET description = 'x' WHERE false",
        "DELETE FROM credit_transactions",
        "TRUNCATE credit_transactions",
        "TRUNCATE organizations CASCADE",
        "WITH gone AS (DELETE FROM credit_transactions RETURNING *) SELECT count(*) FROM gone",
        UPSERT,
        MERGE,
    ],
)
async def test_the_ledger_refuses_to_be_changed(
    pool: Pool, organization: Organization, statement: str
) -> None:
    await post(pool, keyed_posting(organization, "k1", 10))
    before = await transactions(pool)
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await pool.execute(statement)
    assert await transactions(pool) == before


async def test_an_organization_with_a_ledger_cannot_be_deleted(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, keyed_posting(organization, "k1", 10))
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await pool.execute("DELETE FROM organizations")
