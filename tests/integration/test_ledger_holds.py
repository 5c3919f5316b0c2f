"""Holds: reserve, capture, release, expire; and that none leaks."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from shared.ids import new_id
from shared.ledger.model import Posting
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
    assert await Expirer(pool).settle() == 1
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
            await Expirer(pool).settle()
        active = await pool.fetchval(
            "SELECT coalesce(sum(amount), 0) FROM holds WHERE status = 'active'"
        )
        assert await pool.fetchval("SELECT held FROM accounts") == active
