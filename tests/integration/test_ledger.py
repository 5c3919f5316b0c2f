"""The posting function on PostgreSQL: keys, refusals, seq and exact amounts."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
import pytest

from shared.ledger import service, store
from shared.ledger.model import InsufficientCredits, PostingResult, PostingStatus
from shared.ledger.model import TransactionType as Kind
from tests.fixtures.hash_chain import chain
from tests.fixtures.ledger import keyed_posting, post
from tests.fixtures.product import balance, create_organization, transactions

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool
    from shared.organizations.model import Organization


Status = PostingStatus


def statuses(results: list[PostingResult]) -> list[PostingStatus]:
    return [result.status for result in results]


async def test_a_posting_moves_the_balance_and_is_answered_with_its_row(
    pool: Pool, organization: Organization
) -> None:
    grant = keyed_posting(organization, "k1", "10.5", description="welcome", metadata={"a": [1]})
    (result,) = await post(pool, grant)
    assert (result.status, result.id, result.seq) == (Status.POSTED, grant.id, 1)
    assert (result.amount, result.balance_after) == (Decimal("10.5"), Decimal("10.5"))
    (row,) = await transactions(pool)
    assert (row["id"], row["description"], row["metadata"]) == (grant.id, "welcome", {"a": [1]})
    assert row["effective_at"] == row["created_at"] == result.created_at
    assert await balance(pool) == Decimal("10.5")


async def test_without_postings_there_are_no_results(connection: Connection) -> None:
    assert await service.post(connection, []) == []


async def test_the_same_request_again_is_answered_with_the_first_row(
    pool: Pool, organization: Organization
) -> None:
    (first,) = await post(pool, keyed_posting(organization, "k1", 10))
    await post(pool, keyed_posting(organization, "k2", 5))
    (again,) = await post(pool, keyed_posting(organization, "k1", 10))
    assert again.status is Status.REPLAYED
    assert (again.id, again.seq, again.balance_after) == (first.id, 1, Decimal(10))
    assert await balance(pool) == 15


async def test_a_key_with_another_request_is_a_conflict_and_changes_nothing(
    pool: Pool, organization: Organization
) -> None:
    (first,) = await post(pool, keyed_posting(organization, "k1", 10))
    (other,) = await post(pool, keyed_posting(organization, "k1", 11))
    assert (other.status, other.id, other.amount) == (Status.CONFLICT, first.id, Decimal(10))
    assert await balance(pool) == 10


async def test_a_key_is_an_organizations_own(pool: Pool, organization: Organization) -> None:
    other = await create_organization(pool, "other")
    results = await post(pool, keyed_posting(organization, "k", 1), keyed_posting(other, "k", 2))
    assert statuses(results) == [Status.POSTED, Status.POSTED]


async def test_a_key_twice_in_one_batch_posts_once(pool: Pool, organization: Organization) -> None:
    results = await post(
        pool,
        keyed_posting(organization, "k1", 10),
        keyed_posting(organization, "k1", 10),
        keyed_posting(organization, "k1", 11),
        keyed_posting(organization, "k1", 10),
    )
    assert statuses(results) == [Status.POSTED, Status.REPLAYED, Status.CONFLICT, Status.REPLAYED]
    assert {result.id for result in results} == {results[0].id}
    assert {result.balance_after for result in results} == {10}
    assert await balance(pool) == 10


async def test_a_key_that_was_refused_may_be_used_again_in_the_same_batch(
    pool: Pool, organization: Organization
) -> None:
    results = await post(
        pool,
        keyed_posting(organization, "k1", -10),
        keyed_posting(organization, "k2", 10),
        keyed_posting(organization, "k1", -10),
    )
    assert statuses(results) == [Status.INSUFFICIENT, Status.POSTED, Status.POSTED]


async def test_what_the_balance_does_not_cover_is_refused_and_the_rest_is_unharmed(
    pool: Pool, organization: Organization
) -> None:
    results = await post(
        pool,
        keyed_posting(organization, "k1", 10),
        keyed_posting(organization, "k2", -11),
        keyed_posting(organization, "k3", -4),
        keyed_posting(organization, "k4", "-6.000000001"),
        keyed_posting(organization, "k5", -6),
    )
    assert statuses(results) == [
        Status.POSTED,
        Status.INSUFFICIENT,
        Status.POSTED,
        Status.INSUFFICIENT,
        Status.POSTED,
    ]
    assert isinstance(results[1], InsufficientCredits)
    assert results[1].shortfall.balance == 10
    assert [row["seq"] for row in await transactions(pool)] == [1, 2, 3]
    assert await balance(pool) == 0


async def test_credits_on_hold_are_not_spendable(pool: Pool, organization: Organization) -> None:
    await post(pool, keyed_posting(organization, "k1", 10))
    await pool.execute("UPDATE accounts SET held = 4")
    results = await post(
        pool, keyed_posting(organization, "k2", -7), keyed_posting(organization, "k3", -6)
    )
    assert statuses(results) == [Status.INSUFFICIENT, Status.POSTED]


async def test_an_overdraft_reaches_to_its_limit_and_no_further(
    pool: Pool, organization: Organization
) -> None:
    await pool.execute("UPDATE accounts SET overdraft_limit = 5")
    results = await post(
        pool,
        keyed_posting(organization, "k1", -5),
        keyed_posting(organization, "k2", "-0.000000001"),
    )
    assert statuses(results) == [Status.POSTED, Status.INSUFFICIENT]


async def test_usage_that_already_happened_may_overdraw(
    pool: Pool, organization: Organization
) -> None:
    (result,) = await post(pool, keyed_posting(organization, "k1", -5, may_overdraw=True))
    assert (result.status, result.balance_after) == (Status.POSTED, Decimal(-5))


async def test_a_gain_is_posted_however_deep_the_balance_is(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, keyed_posting(organization, "k1", -50, may_overdraw=True))
    (result,) = await post(pool, keyed_posting(organization, "k2", 10))
    assert (result.status, result.balance_after) == (Status.POSTED, Decimal(-40))


async def test_an_unknown_organization_is_said_so_and_the_rest_is_unharmed(
    pool: Pool, organization: Organization
) -> None:
    results = await post(
        pool,
        keyed_posting(UUID(int=1), "k", 1),
        keyed_posting(organization, "k", 1),
        keyed_posting(UUID(int=2**128 - 1), "k", 1),
    )
    assert statuses(results) == [
        Status.UNKNOWN_ORGANIZATION,
        Status.POSTED,
        Status.UNKNOWN_ORGANIZATION,
    ]


async def test_a_closed_organization_takes_nothing_new_and_still_answers_for_the_old(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, keyed_posting(organization, "k1", 1))
    await pool.execute("UPDATE accounts SET closed_at = now()")
    results = await post(
        pool, keyed_posting(organization, "k1", 1), keyed_posting(organization, "k2", 1)
    )
    assert statuses(results) == [Status.REPLAYED, Status.CLOSED]


async def test_results_come_in_the_order_of_the_postings_of_many_organizations(
    pool: Pool,
) -> None:
    owners = [await create_organization(pool, f"org-{n}") for n in range(4)]
    asked = [keyed_posting(owners[n % 4], f"k{n}", n + 1) for n in range(40)]
    results = await post(pool, *asked)
    assert [result.id for result in results] == [p.id for p in asked]
    assert [result.organization_id for result in results] == [p.organization_id for p in asked]
    assert [result.amount for result in results] == [p.amount for p in asked]


async def test_nine_decimals_and_eighteen_digits_are_kept_exactly(
    pool: Pool, organization: Organization
) -> None:
    amount = Decimal("123456789012345678.123456789")
    (result,) = await post(pool, keyed_posting(organization, "k", amount))
    assert result.amount == result.balance_after == amount


async def test_an_effective_moment_is_kept_apart_from_the_moment_of_posting(
    pool: Pool, organization: Organization
) -> None:
    moment = datetime(2020, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
    await post(pool, keyed_posting(organization, "k", 1, effective_at=moment))
    (row,) = await transactions(pool)
    assert row["effective_at"] == moment
    assert row["created_at"] > moment


async def test_what_is_rolled_back_was_never_posted(pool: Pool, organization: Organization) -> None:
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await service.post(connection, [keyed_posting(organization, "k1", 10)])
        await transaction.rollback()
    (result,) = await post(pool, keyed_posting(organization, "k1", 10))
    assert (result.status, result.seq) == (Status.POSTED, 1)


async def test_posting_from_8_connections_at_once_leaves_no_gap_in_seq(
    pool: Pool, organization: Organization
) -> None:
    async def writer(name: int) -> None:
        for n in range(10):
            await post(
                pool,
                keyed_posting(organization, f"{name}-{n}-a", 3),
                keyed_posting(organization, f"{name}-{n}-b", -1),
                keyed_posting(organization, f"{name}-{n}-c", -1000),
            )

    await asyncio.gather(*map(writer, range(8)))
    rows = await transactions(pool)
    assert [row["seq"] for row in rows] == list(range(1, 161))
    running = Decimal(0)
    for row in rows:
        running += row["amount"]
        assert row["balance_after"] == running
    assert await balance(pool) == running == 160
    assert chain(rows) == [row["hash"] for row in rows]


async def test_one_key_from_8_connections_at_once_posts_once(
    pool: Pool, organization: Organization
) -> None:
    results = await asyncio.gather(
        *(post(pool, keyed_posting(organization, "k", 10)) for _ in range(8))
    )
    assert sorted(result[0].status for result in results) == ["posted"] + ["replayed"] * 7
    assert {result[0].seq for result in results} == {1}


async def test_batches_that_name_organizations_in_opposite_orders_do_not_deadlock(
    pool: Pool,
) -> None:
    owners = [await create_organization(pool, f"org-{n}") for n in range(6)]

    async def writer(name: int) -> None:
        for n in range(10):
            order = owners if (name + n) % 2 else owners[::-1]
            await post(pool, *(keyed_posting(owner, f"{name}-{n}", 1) for owner in order))

    async with asyncio.timeout(30):
        await asyncio.gather(*map(writer, range(6)))
    assert [await balance(pool, owner.slug) for owner in owners] == [60] * 6


async def test_the_balance_of_an_account_is_read_with_what_is_held(
    connection: Connection, organization: Organization
) -> None:
    row = await store.balance(connection, organization.id)
    assert row is not None
    assert row.last_seq == row.balance == row.held == row.overdraft_limit == 0
    assert await store.balance(connection, UUID(int=1)) is None


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"amount": Decimal(0)}, id="nothing"),
        pytest.param({"amount": Decimal("0.0000000001")}, id="ten decimals"),
        pytest.param({"amount": Decimal("1.0000000005")}, id="ten decimals over one"),
        pytest.param({"amount": Decimal("1e30")}, id="more digits than the column"),
        pytest.param({"amount": Decimal("nan")}, id="NaN"),
        pytest.param({"amount": Decimal("snan")}, id="signalling NaN"),
        pytest.param({"amount": Decimal("-inf")}, id="infinity"),
        pytest.param({"amount": None}, id="no amount"),
        pytest.param({"key": "expiration:1"}, id="a key of the ledger's own"),
        pytest.param({"effective_at": datetime(2026, 1, 1)}, id="a moment without a zone"),  # noqa: DTZ001
        pytest.param({"expires_at": datetime(2199, 1, 1)}, id="an expiry without a zone"),  # noqa: DTZ001
        pytest.param({"effective_at": datetime.min.replace(tzinfo=UTC)}, id="year one"),
        pytest.param({"type": "gift"}, id="unknown type"),
        pytest.param({"type": Kind.USAGE}, id="a positive usage would mint credits"),
        pytest.param({"type": Kind.HOLD_CAPTURE}, id="a positive capture would mint credits"),
        pytest.param({"amount": Decimal(-1), "type": Kind.GRANT}, id="a negative grant"),
        pytest.param({"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, id="expired before"),
        pytest.param({"effective_at": datetime(2199, 1, 1, tzinfo=UTC)}, id="not yet happened"),
        pytest.param({"metadata": {"x": "y" * 2**20}}, id="1 MiB of metadata"),
        pytest.param({"metadata": {"x": "a\0b"}}, id="NUL in the metadata"),
        pytest.param({"priority": 101}, id="priority out of bounds"),
        pytest.param({"quantity": Decimal("nan")}, id="quantity NaN"),
        pytest.param({"description": "\ud800"}, id="half of a surrogate pair"),
        pytest.param({"metadata": {"x": "\ud800"}}, id="half a pair in the metadata"),
        pytest.param({"type": Kind.VOID}, id="a void with an amount"),
        pytest.param({"amount": Decimal(-1), "type": Kind.REFUND}, id="a refund of nothing"),
        pytest.param({"key": ""}, id="empty key"),
        pytest.param({"key": "k" * 256}, id="key too long"),
        pytest.param({"key": "a\0b"}, id="NUL in the key"),
        pytest.param({"description": "a\0b"}, id="NUL in the description"),
    ],
)
async def test_a_posting_that_could_not_be_kept_exactly_is_never_posted(
    pool: Pool, organization: Organization, changes: dict[str, Any]
) -> None:
    asked = msgspec.structs.replace(keyed_posting(organization, "k", 1), digest=None, **changes)
    results = await post(
        pool, keyed_posting(organization, "a", 1), asked, keyed_posting(organization, "b", 1)
    )
    assert statuses(results) == [Status.POSTED, Status.INVALID, Status.POSTED]
    assert results[1].error
    assert [row["idempotency_key"] for row in await transactions(pool)] == ["a", "b"]


async def test_a_retry_among_new_debits_of_many_organizations_is_told_apart(pool: Pool) -> None:
    owners = [await create_organization(pool, f"org-{n}") for n in range(3)]
    await post(pool, *(keyed_posting(owner, "grant", 10) for owner in owners))
    await post(pool, *(keyed_posting(owner, "first", -1) for owner in owners))
    again = [
        keyed_posting(owners[0], "second", -2),
        keyed_posting(owners[1], "first", -1),
        keyed_posting(owners[1], "second", -2),
        keyed_posting(owners[2], "first", -3),
        keyed_posting(owners[2], "second", -2),
    ]
    results = await post(pool, *again)
    assert [result.status for result in results] == [
        Status.POSTED,
        Status.REPLAYED,
        Status.POSTED,
        Status.CONFLICT,
        Status.POSTED,
    ]
    assert [result.seq for result in results] == [3, 2, 3, 2, 3]
    for owner in owners:
        rows = [row for row in await transactions(pool) if row["organization_id"] == owner.id]
        assert chain(rows) == [row["hash"] for row in rows]
