"""Verification finds what was changed behind the ledger's back, and names the place."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared.ledger import service
from shared.ledger.verification import Verification, anchor, verify
from shared.ledger.verification import service as verifying
from tests.fixtures.commands import Command
from tests.fixtures.ledger import grant, hold, left, make_due, post, tampering, usage
from tests.fixtures.product import create_organization

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool
    from shared.organizations.model import Organization


SWAP = """
UPDATE credit_transactions SET seq = CASE seq WHEN 5 THEN 1006 ELSE 1005 END WHERE seq IN (5, 6);
UPDATE credit_transactions SET seq = seq - 1000 WHERE seq > 1000
"""


async def some_history(pool: Pool, owner: Organization) -> None:
    await post(pool, *(grant(owner, 10) for _ in range(3)))
    await post(pool, *(usage(owner, 3) for _ in range(7)))
    await hold(pool, owner, 2)


@pytest.mark.parametrize(
    ("statement", "problem", "seq"),
    [
        ("UPDATE credit_transactions SET amount = -2 WHERE seq = 5", "hash", 5),
        ("UPDATE credit_transactions SET description = 'x' WHERE seq = 5", "hash", 5),
        ("UPDATE credit_transactions SET balance_after = 99 WHERE seq = 5", "hash", 5),
        ("DELETE FROM credit_transactions WHERE seq = 5", "gap", 6),
        ("DELETE FROM credit_transactions WHERE seq = 10", "last row is missing", None),
        (SWAP, "hash", 5),
        ("UPDATE accounts SET balance = balance + 1", "balance is not that of the last row", None),
        ("UPDATE accounts SET held = held + 1", "held", None),
        ("UPDATE accounts SET last_hash = sha256('x')", "last hash", None),
        ("DELETE FROM burn_segments WHERE lower = 10", "segments", None),
        ("UPDATE burn_segments SET upper = 9 WHERE lower = 0", "segments", None),
        ("UPDATE credit_grants SET remaining = 1 WHERE remaining = 0", "grants", None),
    ],
)
async def test_each_kind_of_tampering_is_found_and_named(
    pool: Pool, organization: Organization, statement: str, problem: str, seq: int | None
) -> None:
    await some_history(pool, organization)
    async with pool.acquire() as connection:
        assert (await verify(connection))["ok"]
        root = (await anchor(connection))["root"]
    async with tampering(pool) as connection:
        await connection.execute(statement)
    async with pool.acquire() as connection:
        found = await verify(connection)
        assert not found["ok"]
        first = next(p for p in found["problems"] if problem in p["problem"])
        assert first["organizationId"] == str(organization.id)
        assert seq is None or first["seq"] == seq
        if "last_hash" in statement:
            assert (await anchor(connection))["root"] != root


async def test_a_page_at_a_time_finds_the_same(
    pool: Pool, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifying, "ROWS_AT_ONCE", 7)
    monkeypatch.setattr(verifying, "ACCOUNTS_AT_ONCE", 2)
    owners = [organization, *[await create_organization(pool, f"org-{n}") for n in range(4)]]
    for owner in owners:
        await some_history(pool, owner)
    seen: list[int] = []
    async with pool.acquire() as connection:
        found = await verify(connection, progress=seen.append)
    assert (found["ok"], found["organizations"], found["transactions"]) == (True, 5, 50)
    assert seen == sorted(seen)
    assert len(seen) > 5
    for number, owner in enumerate(owners):
        async with tampering(pool) as connection:
            await connection.execute(
                "UPDATE credit_transactions SET user_id = 'x'"
                " WHERE organization_id = $1 AND seq = $2",
                owner.id,
                number * 2 + 1,
            )
    async with pool.acquire() as connection:
        found = await verify(connection)
        assert {(p["organizationId"], p["seq"]) for p in found["problems"]} == {
            (str(owner.id), number * 2 + 1) for number, owner in enumerate(owners)
        }
        only = await verify(connection, owners[2].id)
    assert [p["seq"] for p in only["problems"]] == [5]
    assert (only["organizations"], only["transactions"]) == (1, 10)


async def test_verification_sees_one_moment_while_others_post(
    pool: Pool, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifying, "ROWS_AT_ONCE", 3)
    await some_history(pool, organization)
    stop = asyncio.Event()

    async def keep_posting() -> None:
        while not stop.is_set():
            await post(pool, grant(organization, 1), usage(organization, 1))

    posting = asyncio.create_task(keep_posting())
    async with pool.acquire() as connection:
        found = [await verify(connection) for _ in range(5)]
    stop.set()
    await posting
    assert all(result["ok"] for result in found)


async def test_an_anchor_is_the_same_until_anything_is_posted(
    pool: Pool, connection: Connection, organization: Organization
) -> None:
    await some_history(pool, organization)
    first: Any = await anchor(connection)
    assert await anchor(connection) == first
    await post(pool, usage(organization, 1))
    assert (await anchor(connection))["root"] != first["root"]


async def test_the_command_line_verifies_and_refuses(
    pool: Pool, organization: Organization, prepaid: Command
) -> None:
    await some_history(pool, organization)
    good = await prepaid("ledger", "verify", "--json")
    assert (good.code, good.json["ok"], good.json["transactions"]) == (0, True, 10)
    assert (await prepaid("ledger", "anchor", "--json")).json["transactions"] == 10
    async with tampering(pool) as connection:
        await connection.execute("UPDATE credit_transactions SET category = 'x' WHERE seq = 3")
    bad = await prepaid("ledger", "verify", "--organization", organization.slug, "--json")
    assert (bad.code, bad.json["ok"], bad.json["problems"][0]["seq"]) == (1, False, 3)
    assert (await prepaid("ledger", "verify", "--organization", "nobody")).code == 1


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


def places(found: Verification) -> set[tuple[Any, Any]]:
    return {(problem["organizationId"], problem["seq"]) for problem in found["problems"]}


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


async def test_an_anchor_is_that_of_all_ledgers_and_tells_them_apart(
    pool: Pool, connection: Connection, organization: Organization
) -> None:
    empty = await anchor(connection)
    assert (empty["organizations"], empty["transactions"]) == (0, 0)
    other = await create_organization(pool, "other")
    roots = {empty["root"]}
    for owner in (organization, other, other, organization):
        await post(pool, grant(owner, 1))
        roots.add((await anchor(connection))["root"])
    assert len(roots) == 5
    assert (await anchor(connection))["organizations"] == 2
    await hold(pool, other, 1)
    assert (await anchor(connection))["root"] in roots, "a hold is no transfer"


async def test_every_page_size_tells_the_same(
    pool: Pool, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page may end at the last row of a ledger, in the middle of one, or with the last of all."""
    owners = [organization, *[await create_organization(pool, f"org-{n}") for n in range(3)]]
    for number, owner in enumerate(owners):
        await post(pool, *(grant(owner, 1) for _ in range(7 + number)))
    async with tampering(pool) as connection:
        await connection.execute("UPDATE credit_transactions SET user_id = 'x' WHERE seq IN (1, 7)")
        await connection.execute("DELETE FROM credit_transactions WHERE seq = 4")
    told = []
    for rows, accounts in ((10_000, 1_000), (7, 7), (6, 1), (1, 2), (3, 4)):
        monkeypatch.setattr(verifying, "ROWS_AT_ONCE", rows)
        monkeypatch.setattr(verifying, "ACCOUNTS_AT_ONCE", accounts)
        async with pool.acquire() as connection:
            told.append(await verify(connection))
            one = await verify(connection, owners[1].id)
        assert {seq for _, seq in places(one) if seq} == {1, 4, 5, 7}
        assert (one["organizations"], one["transactions"]) == (1, 7)
    assert all(
        sorted(map(str, t["problems"])) == sorted(map(str, told[0]["problems"])) for t in told
    )
    expected = {(str(owner.id), seq) for owner in owners for seq in (1, 4, 5, 7)}
    assert {place for place in places(told[0]) if place[1]} == expected
    assert {(t["organizations"], t["transactions"]) for t in told} == {(4, 30)}


async def test_a_verification_changes_nothing_and_waits_for_nobody(
    pool: Pool, organization: Organization
) -> None:
    await some_history(pool, organization)
    async with pool.acquire() as writer, writer.transaction():
        await service.post(writer, [usage(organization, 1)])
        async with pool.acquire() as reader:
            found = await verify(reader)
    assert (found["ok"], found["transactions"]) == (True, 10)
    async with pool.acquire() as reader:
        assert (await verify(reader))["transactions"] == 11


async def test_nothing_posted_is_no_problem(
    connection: Connection, organization: Organization
) -> None:
    found = await verify(connection)
    assert found == {"ok": True, "organizations": 1, "transactions": 0, "problems": []}


async def test_debt_and_expired_credits_verify(pool: Pool, organization: Organization) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    (lost,) = await post(pool, grant(organization, 5, expires_at=soon))
    assert lost.id is not None
    await post(pool, usage(organization, 2))
    await make_due(pool, "credit_grants", lost.id)
    await post(pool, usage(organization, 4, may_overdraw=True), grant(organization, 1))
    async with pool.acquire() as connection:
        assert (await verify(connection))["problems"] == []


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


async def test_one_organization_is_not_blamed_for_another(
    pool: Pool, connection: Connection, organization: Organization
) -> None:
    other = await create_organization(pool, "other")
    await some_history(pool, organization)
    await some_history(pool, other)
    await pool.execute("UPDATE accounts SET balance = 7 WHERE organization_id = $1", other.id)
    assert (await verify(connection, organization.id))["problems"] == []


async def test_the_command_line_tells_a_person_where_the_problem_is(
    pool: Pool, organization: Organization, prepaid: Command
) -> None:
    await some_history(pool, organization)
    good = await prepaid("ledger", "verify")
    assert (good.code, good.stdout) == (0, "ok: 10 transactions of 1 organizations\n")
    before = (await prepaid("ledger", "anchor")).stdout
    assert before.endswith("  1 organizations, 10 transactions\n")
    root = (await prepaid("ledger", "anchor", "--json")).json["root"]
    assert before.startswith(f"{root}  ")
    async with tampering(pool) as connection:
        await connection.execute("UPDATE credit_transactions SET category = 'x' WHERE seq = 3")
    bad = await prepaid("ledger", "verify", "--organization", str(organization.id))
    assert bad.code == 1
    lines = bad.stdout.splitlines()
    assert lines[0] == "NOT ok: 10 transactions of 1 organizations"
    assert str(organization.id) in lines[2]
    assert lines[2].endswith("hash does not fit the row or the row before it")
