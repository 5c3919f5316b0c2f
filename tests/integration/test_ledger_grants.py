"""Grants: the order in which they burn, how they end, and that they pay debt first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from shared.ids import new_id
from shared.ledger.model import TransactionType as Kind
from tests.fixtures.ledger import balances, grant, left, make_due, post, posting, statuses, usage
from tests.fixtures.product import create_organization, transactions
from worker.expirer import Expirer

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

SOON = datetime.now(UTC) + timedelta(days=1)
LATER = SOON + timedelta(days=1)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param({"priority": 1}, {"priority": 2, "expires_at": SOON}, id="priority"),
        pytest.param({"expires_at": SOON}, {"expires_at": LATER}, id="soonest expiry"),
        pytest.param({"expires_at": LATER}, {}, id="an expiry before none"),
        pytest.param({"promotional": True}, {"promotional": False}, id="promotional"),
        pytest.param({}, {}, id="oldest"),
    ],
)
@pytest.mark.parametrize("reverse", [False, True])
async def test_grants_burn_in_their_order_whatever_came_first(
    pool: Pool, organization: Organization, first: dict[str, object], second: dict[str, object],
    reverse: bool,
) -> None:  # fmt: skip
    if reverse and first == second:
        return  # the oldest is the first by itself
    order = [second, first] if reverse else [first, second]
    await post(pool, *(grant(organization, 10, **fields) for fields in order))
    await post(pool, usage(organization, 4))
    burned = await left(pool, organization)
    assert burned == ([10, 6] if reverse else [6, 10])


async def test_a_debit_that_crosses_three_grants_leaves_a_segment_for_each(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, *(grant(organization, 10) for _ in range(4)))
    await post(pool, usage(organization, 5), usage(organization, 20))
    assert await left(pool, organization) == [0, 0, 5, 10]
    rows = await pool.fetch("SELECT lower, upper FROM burn_segments ORDER BY lower")
    assert [tuple(row) for row in rows] == [(0, 10), (10, 20), (20, None)]


async def test_many_debits_from_one_grant_write_one_segment(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 100))
    for _ in range(5):
        await post(pool, *(usage(organization, 1) for _ in range(5)))
    assert await pool.fetchval("SELECT count(*) FROM burn_segments") == 1


@pytest.mark.parametrize("by", ["the schedule", "the next posting"])
async def test_what_has_expired_leaves_exactly_its_remainder_at_its_moment(
    pool: Pool, organization: Organization, by: str
) -> None:
    (kept, lost) = await post(
        pool, grant(organization, 5), grant(organization, "9.000000001", expires_at=SOON)
    )
    await post(pool, usage(organization, 2))
    assert lost.id is not None
    assert kept.id is not None
    await make_due(pool, "credit_grants", lost.id)
    assert await balances(pool, organization) == (5, 0), "it does not count before it is settled"
    if by == "the schedule":
        assert await Expirer(pool).settle() == 1
        assert await Expirer(pool).settle() == 0
    else:
        assert await statuses(pool, usage(organization, "5.1")) == ["insufficient"]
    row = (await transactions(pool))[-1]
    assert (row["type"], row["amount"]) == ("expiration", Decimal("-7.000000001"))
    assert row["effective_at"] < row["created_at"]
    assert row["counterparty"] == "breakage"
    assert await balances(pool, organization) == (5, 0)


async def test_a_posting_finds_what_is_due_expired_before_it(
    pool: Pool, organization: Organization
) -> None:
    (lost,) = await post(pool, grant(organization, 10, expires_at=SOON))
    assert lost.id is not None
    await make_due(pool, "credit_grants", lost.id)
    assert await statuses(pool, grant(organization, 3), usage(organization, 3)) == ["posted"] * 2
    types = [row["type"] for row in await transactions(pool)]
    assert types == ["grant", "expiration", "grant", "usage"]


async def test_a_void_takes_what_is_left_and_only_once(
    pool: Pool, organization: Organization
) -> None:
    (made,) = await post(pool, grant(organization, 10))
    await post(pool, usage(organization, 4))
    void = posting(organization, Kind.VOID, None, grant_id=made.id)
    (result,) = await post(pool, void)
    assert result.status == "posted"
    assert result.amount == Decimal(-6)
    again = posting(organization, Kind.VOID, None, grant_id=made.id)
    unknown = posting(organization, Kind.VOID, None, grant_id=new_id())
    assert await statuses(pool, again, unknown, void) == [
        "nothing_left",
        "unknown_grant",
        "replayed",
    ]


async def test_nobody_voids_the_grant_of_another(pool: Pool, organization: Organization) -> None:
    other = await create_organization(pool, "other")
    (made,) = await post(pool, grant(organization, 10))
    void = posting(other, Kind.VOID, None, grant_id=made.id)
    assert await statuses(pool, void) == ["unknown_grant"]
    assert await left(pool, organization) == [10]


async def test_a_grant_pays_debt_first_and_the_debit_is_traced_to_it(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, usage(organization, 10, may_overdraw=True))
    await post(pool, grant(organization, 4))
    await post(pool, grant(organization, 9))
    assert await left(pool, organization) == [0, 3]
    assert await balances(pool, organization) == (3, 0)
    rows = await pool.fetch("SELECT lower, upper FROM burn_segments ORDER BY lower")
    assert [tuple(row) for row in rows] == [(0, 4), (4, 10)]
