"""Tampering with the ledger: verification names what was changed, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.ledger.verification import anchor, verify
from tests.fixtures.ledger import left, post, some_history, tampering, usage
from tests.fixtures.product import create_organization

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool
    from shared.organizations.model import Organization


FORGED_BALANCE = """
UPDATE accounts SET balance = 10 WHERE last_seq > 0;
UPDATE credit_grants SET remaining = 10 WHERE seq = 3
"""
# Give every row of a ledger the hash that fits what it says now, as somebody with all rights could.
REWRITE = """
DO $$
DECLARE
    v_row credit_transactions;
    v_previous bytea := '\\x';
BEGIN
    FOR v_row IN SELECT * FROM credit_transactions ORDER BY seq LOOP
        v_previous := ledger_row_hash(v_previous, v_row);
        UPDATE credit_transactions SET hash = v_previous WHERE seq = v_row.seq;
    END LOOP;
    UPDATE accounts SET last_hash = v_previous;
END
$$
"""
# Append a pair of rows that sums to nothing behind the head that the account names.
APPEND = """
INSERT INTO credit_transactions
SELECT
    t.organization_id, t.seq + n, gen_random_uuid(), 'adjustment', 8 - 16 * (n - 1),
    t.counterparty, t.balance_after + 8 * (2 - n), t.consumed_after, 'forged-' || n,
    t.request_digest, t.effective_at, t.created_at, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    t.hash
FROM credit_transactions AS t CROSS JOIN generate_series(1, 2) AS n WHERE t.seq = 10
"""


@pytest.mark.parametrize(
    ("statement", "problem", "seq"),
    [
        ("DELETE FROM credit_transactions WHERE seq = 1", "gap", 2),
        ("DELETE FROM credit_transactions WHERE seq > 8", "last row is missing", None),
        ("DELETE FROM credit_transactions", "last row is missing", None),
        ("UPDATE credit_transactions SET hash = sha256('x') WHERE seq = 5", "hash", 5),
        ("UPDATE credit_transactions SET hash = sha256('x') WHERE seq = 5", "hash", 6),
        (
            "UPDATE credit_transactions SET created_at = now() WHERE seq = 10",
            "hash",
            10,
        ),
        ("UPDATE credit_transactions SET metadata = '{}' WHERE seq = 1", "hash", 1),
        ("UPDATE credit_transactions SET idempotency_key = 'x' WHERE seq = 4", "hash", 4),
        ("UPDATE credit_transactions SET grant_id = NULL WHERE seq = 2", "hash", 2),
        (FORGED_BALANCE, "balance is not that of the last row", None),
        ("UPDATE accounts SET consumed = 22 WHERE last_seq > 0", "what was consumed", None),
        (
            "UPDATE accounts SET last_seq = 9 WHERE last_seq > 0",
            "balance is not that of the last row",
            None,
        ),
        ("UPDATE holds SET amount = 1", "held", None),
        ("UPDATE holds SET status = 'released', closed_at = now()", "held", None),
        ("UPDATE burn_segments SET lower = 11 WHERE lower = 10", "segments", None),
        ("UPDATE burn_segments SET upper = 25 WHERE upper IS NULL", "segments", None),
    ],
)
async def test_more_kinds_of_tampering_are_found_and_named(
    pool: Pool, organization: Organization, statement: str, problem: str, seq: int | None
) -> None:
    other = await create_organization(pool, "untouched")
    await some_history(pool, organization)
    async with tampering(pool) as connection:
        await connection.execute(statement)
    await some_history(pool, other)
    async with pool.acquire() as connection:
        found = await verify(connection)
    assert not found["ok"]
    named = [p for p in found["problems"] if problem in p["problem"] and p["seq"] == seq]
    assert [p["organizationId"] for p in named] == [str(organization.id)]
    assert str(other.id) not in {p["organizationId"] for p in found["problems"]}


async def test_a_problem_names_the_row(pool: Pool, organization: Organization) -> None:
    await some_history(pool, organization)
    row_id = await pool.fetchval("SELECT id FROM credit_transactions WHERE seq = 4")
    async with tampering(pool) as connection:
        await connection.execute("UPDATE credit_transactions SET amount = -2 WHERE seq = 4")
    async with pool.acquire() as connection:
        found = await verify(connection)
    first = found["problems"][0]
    assert (first["organizationId"], first["seq"]) == (str(organization.id), 4)
    assert first["transactionId"] == str(row_id)
    assert [p["problem"] for p in found["problems"]] == [
        "hash does not fit the row or the row before it"
    ]


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        (
            "UPDATE credit_transactions SET amount = -2 WHERE seq = 4",
            "balance_after is not the balance before plus the amount",
        ),
        (
            "UPDATE credit_transactions SET consumed_after = 100 WHERE seq = 4",
            "consumed_after goes back",
        ),
    ],
)
async def test_what_was_rewritten_with_all_its_hashes_must_still_add_up(
    pool: Pool, organization: Organization, statement: str, problem: str
) -> None:
    await some_history(pool, organization)
    async with tampering(pool) as connection:
        await connection.execute(statement)
        await connection.execute(REWRITE)
    async with pool.acquire() as connection:
        found = await verify(connection)
    assert problem in {p["problem"] for p in found["problems"]}


async def test_a_rewritten_ledger_verifies_and_is_given_away_by_the_anchor(
    pool: Pool, connection: Connection, organization: Organization
) -> None:
    await some_history(pool, organization)
    before = await anchor(connection)
    async with tampering(pool) as owner:
        await owner.execute(
            "UPDATE credit_transactions SET description = 'never happened' WHERE seq = 1"
        )
        await owner.execute(REWRITE)
    assert (await verify(connection))["ok"], "the chain alone cannot tell"
    after = await anchor(connection)
    assert after["root"] != before["root"]
    assert (after["organizations"], after["transactions"]) == (1, 10)


async def test_rows_behind_the_head_of_a_ledger_are_found(
    pool: Pool, connection: Connection, organization: Organization
) -> None:
    await some_history(pool, organization)
    async with tampering(pool) as owner:
        await owner.execute(APPEND)
        for seq in (11, 12):
            await owner.execute(
                "UPDATE credit_transactions AS t SET hash = ledger_row_hash(b.hash, t)"
                " FROM credit_transactions AS b WHERE t.seq = $1 AND b.seq = $1 - 1",
                seq,
            )
    assert not (await verify(connection))["ok"]


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param(
            "UPDATE credit_grants SET remaining = CASE seq WHEN 2 THEN 1 ELSE 7 END WHERE seq > 1",
            id="credits moved from one grant to another",
        ),
        pytest.param(
            "UPDATE burn_segments SET grant_id = (SELECT id FROM credit_grants WHERE seq = 3)",
            id="consumption laid on another grant",
        ),
        pytest.param("UPDATE usage_totals SET cost = 0", id="a total of usage"),
    ],
)
async def test_what_is_derived_from_the_rows_is_held_against_them(
    pool: Pool, connection: Connection, organization: Organization, statement: str
) -> None:
    await some_history(pool, organization)
    await post(pool, usage(organization, 1, category="tokens"))
    assert await left(pool, organization) == [0, 0, 8]
    await pool.execute(statement)
    assert not (await verify(connection))["ok"]
