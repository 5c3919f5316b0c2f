"""Grants: the order in which they burn, how they end, and that they pay debt first."""

from __future__ import annotations

import asyncio
import itertools
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import RFC_4122, UUID

import msgspec
import pytest

from shared.ids import new_id
from shared.ledger import listing, service, store
from shared.ledger.model import PostedTransaction
from shared.ledger.model import TransactionType as Kind
from tests.fixtures.ledger import (
    balances,
    grant,
    left,
    make_due,
    post,
    posting,
    release,
    statuses,
    try_hold,
    usage,
)
from tests.fixtures.product import create_organization, transactions
from worker.expirer import Expirer

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool
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
        assert await Expirer(pool).expire() == 1
        assert await Expirer(pool).expire() == 0
    else:
        assert await statuses(pool, usage(organization, "5.1")) == ["insufficient"]
    row = (await transactions(pool))[-1]
    assert (row["type"], row["amount"]) == ("expiration", Decimal("-7.000000001"))
    assert row["effective_at"] < row["created_at"]
    assert row["counterparty"] == "breakage"
    assert await balances(pool, organization) == (5, 0)


async def test_an_expiration_stands_in_lists_where_it_happened_and_not_on_top_for_ever(
    pool: Pool, organization: Organization
) -> None:
    made = await post(pool, *(grant(organization, 1, expires_at=SOON) for _ in range(9)))
    before = time.time_ns() // 1_000_000
    await expire(pool, *(result.id for result in made))
    await Expirer(pool).expire()
    after = time.time_ns() // 1_000_000
    await post(pool, grant(organization, 5, id=new_id(after + 1000)))
    async with pool.acquire() as connection:
        listed = (await listing.list_page(connection, None, [], offset=0, limit=99)).rows
    seqs = [row["seq"] for row in listed]
    assert seqs[:10] == list(range(19, 9, -1)), "newest first, those of one moment in their order"
    for row in listed[1:10]:
        assert row["type"] == "expiration"
        assert (row["id"].version, row["id"].variant) == (7, RFC_4122)
        assert before <= row["id"].int >> 80 <= after
    assert len({row["id"].int & (1 << 62) - 1 for row in listed[1:10]}) == 9


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


async def expire(pool: Pool, *grant_ids: UUID | None) -> None:
    for grant_id in grant_ids:
        assert grant_id is not None
        await make_due(pool, "credit_grants", grant_id)


async def types(pool: Pool) -> list[str]:
    return [row["type"] for row in await transactions(pool)]


async def test_an_expiration_is_effective_at_the_moment_that_the_grant_named(
    pool: Pool, organization: Organization
) -> None:
    (first, second) = await post(
        pool, grant(organization, 3, expires_at=SOON), grant(organization, 4, expires_at=SOON)
    )
    await expire(pool, first.id, second.id)
    await pool.execute(
        "UPDATE credit_grants SET expires_at = expires_at - interval '1 h' WHERE seq = 2"
    )
    await Expirer(pool).expire()
    rows = (await transactions(pool))[2:]
    assert [row["grant_id"] for row in rows] == [second.id, first.id], "the first to expire first"
    grants = {row["id"]: row for row in await pool.fetch("SELECT * FROM credit_grants")}
    for row in rows:
        ended = grants[row["grant_id"]]
        assert row["effective_at"] == ended["expires_at"]
        assert (ended["ended_by"], ended["ended_at"]) == ("expiration", row["created_at"])
        assert row["idempotency_key"] == f"expiration:{row['grant_id']}"


async def test_a_grant_that_is_spent_leaves_nothing_to_expire(
    pool: Pool, organization: Organization
) -> None:
    (spent,) = await post(pool, grant(organization, 3, expires_at=SOON))
    await post(pool, usage(organization, 3))
    await expire(pool, spent.id)
    await Expirer(pool).expire()
    assert await types(pool) == ["grant", "usage"]
    assert await pool.fetchval("SELECT next_due_at FROM accounts") is None


async def test_the_next_expiry_is_known_after_each_settlement(
    pool: Pool, organization: Organization
) -> None:
    (first, _) = await post(
        pool, grant(organization, 3, expires_at=SOON), grant(organization, 4, expires_at=LATER)
    )
    assert await pool.fetchval("SELECT next_due_at FROM accounts") == SOON
    await expire(pool, first.id)
    await Expirer(pool).expire()
    assert await pool.fetchval("SELECT next_due_at FROM accounts") == LATER


@pytest.mark.parametrize("by", ["a hold", "a release", "a batch of nothing new"])
async def test_whatever_takes_the_account_settles_what_is_due(
    pool: Pool, organization: Organization, by: str
) -> None:
    (lost, kept) = await post(pool, grant(organization, 5, expires_at=SOON), grant(organization, 1))
    await expire(pool, lost.id)
    if by == "a hold":
        assert (await try_hold(pool, organization, 2)).status == "insufficient"
    elif by == "a release":
        assert await release(pool, organization, new_id()) == "unknown_hold"
    else:
        known = grant(organization, 1, key=(await transactions(pool))[1]["idempotency_key"])
        assert kept.id is not None
        assert await statuses(pool, known) == ["replayed"]
    assert await types(pool) == ["grant", "grant", "expiration"]
    assert await pool.fetchval("SELECT balance FROM accounts") == 1


async def test_what_expires_pays_no_debit_of_the_same_batch(
    pool: Pool, organization: Organization
) -> None:
    (lost, _) = await post(pool, grant(organization, 10, expires_at=SOON), grant(organization, 4))
    await expire(pool, lost.id)
    assert await statuses(pool, usage(organization, 5), usage(organization, 4)) == [
        "insufficient",
        "posted",
    ]
    assert await left(pool, organization) == [0, 0]
    assert await types(pool) == ["grant", "grant", "expiration", "usage"]


async def test_a_closed_organization_still_loses_what_expires(
    pool: Pool, organization: Organization
) -> None:
    (lost,) = await post(pool, grant(organization, 10, expires_at=SOON))
    await pool.execute("UPDATE accounts SET closed_at = now()")
    await expire(pool, lost.id)
    assert await statuses(pool, usage(organization, 1)) == ["closed"]
    assert await types(pool) == ["grant", "expiration"]


async def test_a_grant_that_is_due_is_expired_and_not_voided(
    pool: Pool, organization: Organization
) -> None:
    (lost,) = await post(pool, grant(organization, 10, expires_at=SOON))
    await expire(pool, lost.id)
    void = posting(organization, Kind.VOID, None, grant_id=lost.id)
    assert await statuses(pool, void) == ["nothing_left"]
    assert await types(pool) == ["grant", "expiration"]


async def test_a_void_in_the_middle_of_a_batch_takes_what_the_debits_before_it_left(
    pool: Pool, organization: Organization
) -> None:
    (_, second, _) = await post(pool, *(grant(organization, 10) for _ in range(3)))
    results = await post(
        pool,
        usage(organization, 12),  # crosses into the second grant
        usage(organization, 1),
        usage(organization, 1),
        posting(organization, Kind.VOID, None, grant_id=second.id),
        usage(organization, 1),
    )
    assert [result.amount for result in results] == [-12, -1, -1, -6, -1]
    assert await left(pool, organization) == [0, 0, 9]
    ended = await pool.fetchrow("SELECT * FROM credit_grants WHERE id = $1", second.id)
    assert ended is not None
    assert ended["ended_by"] == "void"


async def test_two_voids_of_one_grant_at_once_take_it_once(
    pool: Pool, organization: Organization
) -> None:
    (made,) = await post(pool, grant(organization, 10))
    voids = [posting(organization, Kind.VOID, None, grant_id=made.id) for _ in range(6)]
    answers = await asyncio.gather(*(statuses(pool, void) for void in voids))
    assert sorted(itertools.chain(*answers)) == ["nothing_left"] * 5 + ["posted"]
    assert await balances(pool, organization) == (0, 0)


async def test_one_grant_pays_the_debts_of_several_debits_oldest_first(
    pool: Pool, connection: Connection, organization: Organization
) -> None:
    debits = await post(pool, *(usage(organization, 4, may_overdraw=True) for _ in range(3)))
    (made,) = await post(pool, grant(organization, 9))
    assert made.id is not None
    uses = await store.uses(connection, organization.id, made.id, limit=10)
    assert [(use.transaction_id, use.amount) for use in uses] == [
        (debits[0].id, Decimal(4)),
        (debits[1].id, Decimal(4)),
        (debits[2].id, Decimal(1)),
    ]
    assert await balances(pool, organization) == (-3, 0)


async def test_a_callers_key_never_stands_in_the_way_of_an_expiration(
    pool: Pool, connection: Connection, organization: Organization
) -> None:
    (lost,) = await post(pool, grant(organization, 5, expires_at=SOON))
    taken = grant(organization, 7, key=f"expiration:{lost.id}")
    assert await statuses(pool, taken, grant(organization, 7)) == ["invalid", "posted"]
    await expire(pool, lost.id)
    async with connection.transaction():
        await service.post_expirations(connection)
    async with connection.transaction():
        assert await service.post_expirations(connection) == 0, (
            "due for ever: the Expirer never ends"
        )
    assert await statuses(pool, usage(organization, 1)) == ["posted"]
    assert "expiration" in await types(pool)


async def test_grants_are_listed_newest_first_page_by_page(
    pool: Pool, connection: Connection, organization: Organization
) -> None:
    made = await post(pool, *(grant(organization, n) for n in range(1, 8)))
    seen: list[Any] = []
    before = 1 << 62
    while page := await store.grants(
        connection, organization.id, before=before, is_open=None, limit=3
    ):
        seen += [row["id"] for row in page]
        before = page[-1]["seq"]
    assert seen == [result.id for result in reversed(made)]


async def test_a_grant_that_was_posted_in_time_is_replayed_after_it_has_expired(
    pool: Pool, organization: Organization
) -> None:
    now = datetime.now(UTC)
    given = grant(organization, 5, expires_at=now - timedelta(hours=1))
    async with pool.acquire() as connection, connection.transaction():
        (first,) = await service.post(connection, [given], now=now - timedelta(hours=2))
    assert isinstance(first, PostedTransaction)
    other = msgspec.structs.replace(given, amount=Decimal(6))
    late = msgspec.structs.replace(given, key="late")
    found = await post(pool, late, given, other, late)
    assert [result.status for result in found] == ["invalid", "replayed", "conflict", "invalid"]
    assert (found[1].id, found[1].seq, found[0].error) == (
        first.id, first.seq, "expires_at: lies in the past",
    )  # fmt: skip
