"""Holds: reserve, capture, release, expire; and that none leaks."""

from __future__ import annotations

import asyncio
import itertools
import random
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
import pytest

from shared.ids import new_id
from shared.ledger.holds import service as holds
from shared.ledger.holds.model import NewHold, PostedHold
from shared.ledger.model import InvalidPosting, Posting
from shared.ledger.model import TransactionType as Kind
from tests.fixtures.ledger import (
    balances,
    grant,
    hold,
    make_due,
    post,
    posting,
    release,
    statuses,
    try_hold,
    usage,
)
from tests.fixtures.product import create_organization
from worker.expirer import Expirer

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization


def capture(owner: Organization, hold_id: Any, amount: Any, **fields: Any) -> Posting:
    return posting(owner, Kind.HOLD_CAPTURE, -Decimal(amount), hold_id=hold_id, **fields)


async def test_a_hold_keeps_others_from_spending_and_moves_nothing(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 10))
    await hold(pool, organization, 6)
    assert await balances(pool, organization) == (10, 6)
    assert await statuses(pool, usage(organization, 5), usage(organization, 4)) == [
        "insufficient",
        "posted",
    ]
    assert (await try_hold(pool, organization, "0.000000001")).status == "insufficient"


async def test_a_hold_expires_by_the_clock_of_the_database(
    pool: Pool, organization: Organization
) -> None:
    """A web process whose clock is ten minutes ahead reserved credits for ten minutes more."""
    await post(pool, grant(organization, 10))
    new = NewHold(
        organization_id=organization.id, id=new_id(), amount=Decimal(6), seconds=60, key="clock"
    )
    async with pool.acquire() as connection, connection.transaction():
        now = await connection.fetchval("SELECT now()")
        made = await holds.hold(connection, new)
        assert isinstance(made, PostedHold)
        assert made.hold.expires_at == now + timedelta(seconds=60)
        extended = await holds.extend(connection, organization.id, new.id, seconds=120)
        assert isinstance(extended, PostedHold)
        assert extended.hold.expires_at == now + timedelta(seconds=120)


@pytest.mark.parametrize("amount", ["6", "2.5"])
async def test_a_capture_up_to_the_hold_takes_it_and_frees_the_rest(
    pool: Pool, organization: Organization, amount: str
) -> None:
    await post(pool, grant(organization, 10))
    made = await hold(pool, organization, 6)
    assert await statuses(pool, capture(organization, made.id, amount)) == ["posted"]
    assert await balances(pool, organization) == (10 - Decimal(amount), 0)


async def test_a_capture_beyond_the_hold_must_be_asked_for_and_covered(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 10))
    made = await hold(pool, organization, 6)
    assert await statuses(
        pool,
        capture(organization, made.id, 7),
        capture(organization, made.id, 11, may_overdraw=True),
        capture(organization, made.id, 10, may_overdraw=True),
    ) == ["exceeds_hold", "insufficient", "posted"]
    assert await balances(pool, organization) == (0, 0)


async def test_a_closed_hold_is_not_captured(pool: Pool, organization: Organization) -> None:
    await post(pool, grant(organization, 100))
    captured, released, expired = [await hold(pool, organization, 5) for _ in range(3)]
    await post(pool, capture(organization, captured.id, 5))
    assert await release(pool, organization, released.id) == "posted"
    assert await release(pool, organization, released.id) == "replayed"
    assert await release(pool, organization, captured.id) == "hold_closed"
    await make_due(pool, "holds", expired.id)
    answers = await statuses(
        pool, *(capture(organization, h.id, 1) for h in (captured, released, expired))
    )
    assert answers == ["hold_closed"] * 3
    assert await balances(pool, organization) == (95, 0)


async def test_a_hold_expires_by_itself(pool: Pool, organization: Organization) -> None:
    await post(pool, grant(organization, 10))
    made = await hold(pool, organization, 6)
    await make_due(pool, "holds", made.id)
    assert await balances(pool, organization) == (10, 0)
    assert await Expirer(pool).expire() == 1
    assert await pool.fetchval("SELECT status FROM holds") == "expired"
    assert await pool.fetchval("SELECT held FROM accounts") == 0


async def test_nobody_captures_or_releases_the_hold_of_another(
    pool: Pool, organization: Organization
) -> None:
    other = await create_organization(pool, "other")
    await post(pool, grant(organization, 10), grant(other, 10))
    made = await hold(pool, organization, 6)
    assert await statuses(pool, capture(other, made.id, 1)) == ["unknown_hold"]
    assert await release(pool, other, made.id) == "unknown_hold"
    assert await release(pool, organization, new_id()) == "unknown_hold"
    assert await balances(pool, organization) == (10, 6)


async def test_a_holds_key_is_idempotent(pool: Pool, organization: Organization) -> None:
    await post(pool, grant(organization, 10))
    first = await try_hold(pool, organization, 3, key="k")
    again = await try_hold(pool, organization, 3, key="k")
    other = await try_hold(pool, organization, 4, key="k")
    assert [first.status, again.status, other.status] == ["posted", "replayed", "conflict"]
    assert first.hold == again.hold
    assert await balances(pool, organization) == (10, 3)


@pytest.mark.parametrize("amount", ["0", "-1", "nan", "inf", "1e30", "0.0000000001"])
async def test_a_hold_of_no_amount_is_refused_by_name(
    pool: Pool, organization: Organization, amount: str
) -> None:
    await post(pool, grant(organization, 10))
    result = await try_hold(pool, organization, amount)
    assert result.status == "invalid"
    assert (result.error or "").startswith("amount:")
    assert await balances(pool, organization) == (10, 0)


async def test_no_hold_leaks_in_two_hundred_operations(
    pool: Pool, organization: Organization
) -> None:
    choice = random.Random(7)  # noqa: S311 - a history that is the same each time
    await post(pool, grant(organization, 1000))
    living: list[Any] = []
    for _ in range(200):
        action = choice.choice(["hold", "capture", "release", "expire"])
        if action == "hold" or not living:
            living.append((await hold(pool, organization, choice.randint(1, 3))).id)
            continue
        chosen = living.pop(choice.randrange(len(living)))
        if action == "capture":
            assert await statuses(pool, capture(organization, chosen, 1)) == ["posted"]
        elif action == "release":
            assert await release(pool, organization, chosen) == "posted"
        else:
            await make_due(pool, "holds", chosen)
            await Expirer(pool).expire()
        active = await pool.fetchval(
            "SELECT coalesce(sum(amount), 0) FROM holds WHERE status = 'active'"
        )
        assert await pool.fetchval("SELECT held FROM accounts") == active


async def hold_row(pool: Pool, hold_id: UUID) -> Any:
    return await pool.fetchrow("SELECT * FROM holds WHERE id = $1", hold_id)


async def test_a_capture_beyond_its_hold_leaves_the_other_holds_alone(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 10))
    made = await hold(pool, organization, 2)
    await hold(pool, organization, 5)
    # 10 owned, 5 of them for the other hold: 5 is all that this capture may take.
    assert await statuses(
        pool,
        capture(organization, made.id, "5.000000001", may_overdraw=True),
        capture(organization, made.id, 5, may_overdraw=True),
    ) == ["insufficient", "posted"]
    assert await balances(pool, organization) == (5, 5)


async def test_a_capture_beyond_its_hold_may_use_the_overdraft_to_its_limit(
    pool: Pool, organization: Organization
) -> None:
    await pool.execute("UPDATE accounts SET overdraft_limit = 3")
    await post(pool, grant(organization, 10))
    made = await hold(pool, organization, 13)
    assert (await try_hold(pool, organization, 1)).status == "insufficient"
    assert await statuses(pool, capture(organization, made.id, 14, may_overdraw=True)) == [
        "insufficient"
    ]
    assert await statuses(pool, capture(organization, made.id, 13)) == ["posted"]
    assert await balances(pool, organization) == (-3, 0)


async def test_a_capture_is_recorded_with_its_hold_and_told_again_by_its_key(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 10))
    made = await hold(pool, organization, 6, description="a long job")
    asked = capture(organization, made.id, 4, category="tokens", quantity=Decimal(9))
    (result,) = await post(pool, asked)
    assert await statuses(pool, asked) == ["replayed"]
    row = await hold_row(pool, made.id)
    assert (row["status"], row["captured_amount"], row["description"]) == (
        "captured",
        4,
        "a long job",
    )
    assert row["closed_at"] == result.created_at
    (posted,) = await pool.fetch("SELECT * FROM credit_transactions WHERE type = 'hold_capture'")
    assert (posted["hold_id"], posted["amount"]) == (made.id, -4)
    total = await pool.fetchrow("SELECT * FROM usage_totals")
    assert total is not None
    assert (total["category"], total["quantity"], total["cost"]) == ("tokens", 9, 4)


async def test_a_hold_is_captured_once_in_a_batch_and_the_rest_is_unharmed(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 10))
    first, second = [await hold(pool, organization, 4) for _ in range(2)]
    answers = await statuses(
        pool,
        capture(organization, first.id, 4),
        capture(organization, first.id, 4),
        capture(organization, second.id, 4),
        usage(organization, 2),
    )
    assert answers == ["posted", "hold_closed", "posted", "posted"]
    assert await balances(pool, organization) == (0, 0)


async def test_an_expired_hold_is_not_released_and_makes_room_for_the_next(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 10))
    made = await hold(pool, organization, 10)
    assert (await try_hold(pool, organization, 1)).status == "insufficient"
    await make_due(pool, "holds", made.id)
    assert (await try_hold(pool, organization, 10)).status == "posted"
    assert await release(pool, organization, made.id) == "hold_closed"
    row = await hold_row(pool, made.id)
    assert (row["status"], row["captured_amount"]) == ("expired", 0)
    assert await balances(pool, organization) == (10, 10)


async def test_an_expired_hold_lets_the_next_debit_through(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 10))
    made = await hold(pool, organization, 10)
    await make_due(pool, "holds", made.id)
    assert await statuses(pool, usage(organization, 10)) == ["posted"]
    assert await pool.fetchval("SELECT held FROM accounts") == 0


async def test_a_hold_outlives_the_credits_that_it_was_made_of(
    pool: Pool, organization: Organization
) -> None:
    (made,) = await post(pool, grant(organization, 10))
    held = await hold(pool, organization, 6)
    void = posting(organization, Kind.VOID, None, grant_id=made.id)
    assert await statuses(pool, void) == ["posted"]
    assert await balances(pool, organization) == (0, 6)
    assert await statuses(pool, usage(organization, 1)) == ["insufficient"]
    # What was promised is captured, and is debt.
    assert await statuses(pool, capture(organization, held.id, 6)) == ["posted"]
    assert await balances(pool, organization) == (-6, 0)


async def test_a_hold_needs_an_organization_that_is_open(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 10))
    before = await try_hold(pool, organization, 1, key="k")
    await pool.execute("UPDATE accounts SET closed_at = now()")
    assert (await try_hold(pool, organization, 1)).status == "closed"
    again = await try_hold(pool, organization, 1, key="k")
    assert (again.status, again.hold) == ("replayed", before.hold)
    nobody = msgspec.structs.replace(organization, id=new_id())
    assert (await try_hold(pool, nobody, 1)).status == "unknown_organization"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"seconds": 0}, "expires_in_seconds: 1 to 2592000"),
        ({"seconds": 2592001}, "expires_in_seconds: 1 to 2592000"),
        ({"key": ""}, "key: 1 to 255 characters"),
        ({"key": "k" * 256}, "key: 1 to 255 characters"),
        ({"key": "a\0b"}, "key: must not hold NUL or half of a surrogate pair"),
        ({"description": "\ud800"}, "note: must not hold NUL or half of a surrogate pair"),
        ({"description": "x" * 2001}, "note: at most 2000 characters"),
    ],
)
async def test_a_hold_that_could_not_be_kept_is_refused_by_name(
    pool: Pool, organization: Organization, fields: dict[str, Any], problem: str
) -> None:
    await post(pool, grant(organization, 10))
    result = await try_hold(pool, organization, 1, **fields)
    assert isinstance(result, InvalidPosting)
    assert (result.status, result.error) == ("invalid", problem)


async def test_a_capture_and_a_release_at_once_close_a_hold_once(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 100))
    for _ in range(5):
        made = await hold(pool, organization, 10)
        before, _ = await balances(pool, organization)
        captures = [statuses(pool, capture(organization, made.id, 10)) for _ in range(4)]
        releases = [release(pool, organization, made.id) for _ in range(4)]
        captured, released = await asyncio.gather(
            asyncio.gather(*captures), asyncio.gather(*releases)
        )
        won = [*itertools.chain(*captured), *released].count("posted")
        assert won == 1
        taken = 10 * list(itertools.chain(*captured)).count("posted")
        assert await balances(pool, organization) == (before - taken, 0)
