"""Holds that are captured in parts, extended, or closed without usage; and their verification."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from shared.ledger.holds import service as holds
from shared.ledger.model import Posting
from shared.ledger.model import TransactionType as Kind
from shared.ledger.verification import verify
from tests.fixtures.ledger import (
    balances,
    grant,
    hold,
    make_due,
    post,
    posting,
    release,
    statuses,
    tampering,
    try_hold,
)
from worker.expirer import Expirer

if TYPE_CHECKING:
    from uuid import UUID

    from shared.db.pool import Pool
    from shared.organizations.model import Organization


def part(owner: Organization, hold_id: UUID, amount: Any, **fields: Any) -> Posting:
    asked = {"partial": True} | fields
    return posting(owner, Kind.HOLD_CAPTURE, -Decimal(amount), hold_id=hold_id, **asked)


def last(owner: Organization, hold_id: UUID, amount: Any, **fields: Any) -> Posting:
    return part(owner, hold_id, amount, partial=False, **fields)


async def state(pool: Pool, hold_id: UUID) -> tuple[Any, ...]:
    row = await pool.fetchrow("SELECT * FROM holds WHERE id = $1", hold_id)
    assert row is not None
    return row["status"], row["captured_amount"]


async def problems(pool: Pool) -> list[str]:
    async with pool.acquire() as connection:
        report = await verify(connection)
    return [problem["problem"] for problem in report["problems"]]


async def capture_nothing(pool: Pool, owner: Organization, hold_id: UUID) -> str:
    async with pool.acquire() as connection, connection.transaction():
        return (await holds.capture_nothing(connection, owner.id, hold_id)).status.value


async def extend(pool: Pool, owner: Organization, hold_id: UUID, seconds: int) -> Any:
    async with pool.acquire() as connection, connection.transaction():
        return await holds.extend(connection, owner.id, hold_id, seconds=seconds)


async def test_parts_shrink_the_hold_until_the_last_one_closes_it(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 20))
    made = await hold(pool, organization, 10)
    first = part(organization, made.id, 3)
    assert await statuses(pool, first, first, part(organization, made.id, 2)) == [
        "posted",
        "replayed",
        "posted",
    ]
    assert await balances(pool, organization) == (15, 5)
    assert await state(pool, made.id) == ("active", 5)
    assert await problems(pool) == []
    assert await statuses(pool, last(organization, made.id, "1.5")) == ["posted"]
    assert await balances(pool, organization) == (Decimal("13.5"), 0)
    assert await state(pool, made.id) == ("captured", Decimal("6.5"))
    assert await statuses(pool, first, part(organization, made.id, 1)) == [
        "replayed",
        "hold_closed",
    ]
    assert await problems(pool) == []


async def test_a_part_takes_no_more_than_is_left_unless_the_balance_covers_it(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 10))
    made = await hold(pool, organization, 6)
    assert await statuses(
        pool,
        part(organization, made.id, 4),
        part(organization, made.id, 3),
        part(organization, made.id, 7, may_overdraw=True),
        part(organization, made.id, 5, may_overdraw=True),
    ) == ["posted", "exceeds_hold", "insufficient", "posted"]
    assert await state(pool, made.id) == ("active", 9)
    assert await balances(pool, organization) == (1, 0)
    assert await statuses(
        pool,
        last(organization, made.id, 2, may_overdraw=True),
        last(organization, made.id, 2, may_overdraw=True, past_limit=True),
    ) == ["insufficient", "posted"]
    assert await balances(pool, organization) == (-1, 0)
    assert await state(pool, made.id) == ("captured", 11)
    assert await problems(pool) == []


@pytest.mark.parametrize("end", ["release", "expire", "capture nothing"])
async def test_what_is_left_after_a_part_is_available_when_the_hold_ends(
    pool: Pool, organization: Organization, end: str
) -> None:
    await post(pool, grant(organization, 10))
    made = await hold(pool, organization, 10)
    await post(pool, part(organization, made.id, 4))
    assert (await try_hold(pool, organization, 1)).status == "insufficient"
    if end == "release":
        assert await release(pool, organization, made.id) == "posted"
    elif end == "expire":
        await make_due(pool, "holds", made.id)
        assert await balances(pool, organization) == (6, 0)
        assert await Expirer(pool).expire() == 1
    else:
        assert await capture_nothing(pool, organization, made.id) == "posted"
        assert await capture_nothing(pool, organization, made.id) == "replayed"
    expected = {"release": "released", "expire": "expired", "capture nothing": "captured"}[end]
    assert await state(pool, made.id) == (expected, 4)
    assert await balances(pool, organization) == (6, 0)
    assert await pool.fetchval("SELECT held FROM accounts") == 0
    assert await problems(pool) == []


async def test_a_capture_of_nothing_closes_a_hold_that_is_open(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 10))
    unused, used, released = [await hold(pool, organization, 2) for _ in range(3)]
    assert await capture_nothing(pool, organization, unused.id) == "posted"
    assert await state(pool, unused.id) == ("captured", 0)
    assert await release(pool, organization, unused.id) == "hold_closed"
    old = last(organization, used.id, 2, key=f"hold:{used.id}:capture")
    await post(pool, old)
    await pool.execute("UPDATE holds SET captured_by = NULL")  # as earlier releases left it
    assert await capture_nothing(pool, organization, used.id) == "hold_closed"
    await release(pool, organization, released.id)
    assert await capture_nothing(pool, organization, released.id) == "hold_closed"
    assert await pool.fetchval("SELECT count(*) FROM credit_transactions") == 2
    assert await problems(pool) == []


async def test_a_hold_is_extended_and_never_shortened(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 10))
    made = await hold(pool, organization, 4, seconds=60)
    longer = await extend(pool, organization, made.id, 3600)
    assert longer.status == "posted"
    assert longer.hold.expires_at > made.expires_at + timedelta(minutes=50)
    assert await pool.fetchval("SELECT next_due_at FROM accounts") == longer.hold.expires_at
    shorter = await extend(pool, organization, made.id, 10)
    assert (shorter.status, shorter.hold) == ("replayed", longer.hold)
    assert (await extend(pool, organization, made.id, 0)).status == "invalid"
    assert (await extend(pool, organization, organization.id, 10)).status == "unknown_hold"
    assert await problems(pool) == []
    await make_due(pool, "holds", made.id)
    assert (await extend(pool, organization, made.id, 3600)).status == "hold_closed"
    assert await balances(pool, organization) == (10, 0)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("captured_amount = 6", "no row says what a hold captured"),
        ("captured_amount = 4", "no row says what a hold captured"),
        ("captured_by = gen_random_uuid()", "no row says what a hold captured"),
        ("captured_amount = 1", "the hold that this row captured does not say so"),
        ("closed_at = closed_at - interval '1 day'", "the hold that this row captured"),
    ],
)
async def test_a_hold_whose_captures_were_changed_is_a_problem(
    pool: Pool, organization: Organization, change: str, problem: str
) -> None:
    await post(pool, grant(organization, 10))
    made = await hold(pool, organization, 8)
    await post(pool, part(organization, made.id, 2), last(organization, made.id, 3))
    async with tampering(pool) as connection:
        await connection.execute(f"UPDATE holds SET {change}")  # noqa: S608
    found = await problems(pool)
    assert any(text.startswith(problem) for text in found), found
