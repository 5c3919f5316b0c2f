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
from tests.fixtures.ledger import grant, hold, make_due, post, some_history, tampering, usage
from tests.fixtures.product import create_organization

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool
    from shared.organizations.model import Organization


SWAP = """
UPDATE credit_transactions SET seq = CASE seq WHEN 5 THEN 1006 ELSE 1005 END WHERE seq IN (5, 6);
UPDATE credit_transactions SET seq = seq - 1000 WHERE seq > 1000
"""


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


def places(found: Verification) -> set[tuple[Any, Any]]:
    return {(problem["organizationId"], problem["seq"]) for problem in found["problems"]}


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
    assert (good.code, good.stdout) == (0, "ok: 10 transactions of 1 organization\n")
    before = (await prepaid("ledger", "anchor")).stdout
    assert before.endswith("  1 organization, 10 transactions\n")
    root = (await prepaid("ledger", "anchor", "--json")).json["root"]
    assert before.startswith(f"{root}  ")
    async with tampering(pool) as connection:
        await connection.execute("UPDATE credit_transactions SET category = 'x' WHERE seq = 3")
    bad = await prepaid("ledger", "verify", "--organization", str(organization.id))
    assert bad.code == 1
    lines = bad.stdout.splitlines()
    assert lines[0] == "NOT ok: 10 transactions of 1 organization"
    assert str(organization.id) in lines[2]
    assert lines[2].endswith("hash does not fit the row or the row before it")
