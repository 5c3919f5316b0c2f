"""What the customer's app is told of a balance: low, nothing left, about to expire; once each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import pytest_asyncio

from shared.ledger import service as ledger
from shared.organizations.model import Organization
from shared.outbound import service as outbound
from shared.recharge import service as recharge
from shared.recharge import store
from shared.recharge.model import Rule
from tests.fixtures.ledger import grant, post, usage
from tests.fixtures.product import create_organization
from tests.fixtures.recharging import agree as save_rule

if TYPE_CHECKING:
    from shared.db.pool import Pool


@pytest_asyncio.fixture(autouse=True)
async def listening(pool: Pool) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await outbound.add_endpoint(connection, url="http://127.0.0.1:9/hook", allow_private=True)


async def told(pool: Pool) -> list[tuple[str, dict[str, Any]]]:
    rows = await pool.fetch("SELECT type, payload FROM outbound_messages ORDER BY created_at, id")
    return [(row["type"], msgspec.json.decode(row["payload"])["data"]) for row in rows]


async def kinds(pool: Pool) -> list[str]:
    return [kind for kind, _ in await told(pool)]


async def low_below(pool: Pool, owner: Organization, amount: int) -> None:
    await pool.execute(
        "UPDATE accounts SET low_below = $2 WHERE organization_id = $1", owner.id, Decimal(amount)
    )


async def agree(pool: Pool, owner: Organization, threshold: int) -> None:
    await save_rule(pool, owner, Rule(threshold=Decimal(threshold), amount=Decimal(20)))


async def test_a_low_balance_is_told_once_each_time_it_falls(
    pool: Pool, organization: Organization
) -> None:
    await low_below(pool, organization, 10)
    await post(pool, grant(organization, 12))
    for _ in range(3):
        await post(pool, usage(organization, 1))
    assert await told(pool) == [
        ("credits.low", {"organizationId": str(organization.id), "balance": 9, "threshold": 10})
    ]
    await post(pool, grant(organization, 5))
    await post(pool, usage(organization, 5))
    assert await kinds(pool) == ["credits.low", "credits.recovered", "credits.low"]


async def test_a_balance_at_nothing_is_told_once(pool: Pool, organization: Organization) -> None:
    await low_below(pool, organization, 10)
    await post(pool, grant(organization, 12))
    await post(pool, usage(organization, 1), usage(organization, 11))
    await post(pool, usage(organization, 1, may_overdraw=True))
    assert [kind for kind, _ in await told(pool)] == ["credits.depleted"]


async def test_a_balance_that_rises_to_the_threshold_is_announced_once(
    pool: Pool, organization: Organization
) -> None:
    await low_below(pool, organization, 10)
    await post(pool, grant(organization, 12))
    await post(pool, usage(organization, 5))
    await post(pool, grant(organization, 2))
    assert await kinds(pool) == ["credits.low"]  # 9: still low
    for _ in range(2):
        await post(pool, grant(organization, 1))
    assert (await told(pool))[1:] == [
        (
            "credits.recovered",
            {"organizationId": str(organization.id), "balance": 10, "threshold": 10},
        )
    ]
    await post(pool, usage(organization, 11))
    assert await kinds(pool) == ["credits.low", "credits.recovered", "credits.depleted"]
    await post(pool, grant(organization, 30))
    assert (await kinds(pool))[-1] == "credits.recovered"


async def test_a_first_purchase_recovers_nothing_and_is_not_low(
    pool: Pool, organization: Organization
) -> None:
    await low_below(pool, organization, 10)
    await post(pool, grant(organization, 5))
    assert await kinds(pool) == []
    await post(pool, grant(organization, 50))
    assert await kinds(pool) == []


async def test_a_balance_that_was_never_above_the_threshold_is_low_at_its_first_debit(
    pool: Pool, organization: Organization
) -> None:
    await low_below(pool, organization, 10)
    await post(pool, grant(organization, 5))
    for _ in range(3):
        await post(pool, usage(organization, 1))
    assert await kinds(pool) == ["credits.low"]


async def test_many_debits_below_a_threshold_that_was_announced_go_the_short_way(
    pool: Pool,
) -> None:
    owners = [await create_organization(pool, f"org-{n}") for n in range(3)]
    await post(pool, *(grant(owner, 12) for owner in owners))
    await post(pool, *(usage(owner, 1) for owner in owners))
    for owner in owners:
        await low_below(pool, owner, 20)
    for _ in range(2):
        await post(pool, *(usage(owner, 1) for owner in owners))
    assert await kinds(pool) == ["credits.low"] * 3


async def test_without_a_threshold_each_time_that_nothing_is_left_is_announced(
    pool: Pool, organization: Organization
) -> None:
    for _ in range(2):
        await post(pool, grant(organization, 5))
        await post(pool, usage(organization, 5))
    assert await kinds(pool) == ["credits.depleted"] * 2


@pytest.mark.parametrize("thresholds", [[10, 50], [50]])
async def test_m13_low_follows_the_rule_that_is_saved_now(
    pool: Pool, organization: Organization, thresholds: list[int]
) -> None:
    """M13: rule saved with threshold 10, then 50; usage takes 100, 45, 9."""
    await post(pool, grant(organization, 100))
    for threshold in thresholds:
        await agree(pool, organization, threshold)
    for amount in (55, 36):
        await post(pool, usage(organization, amount))
    assert [(kind, data["balance"], data["threshold"]) for kind, data in await told(pool)] == [
        ("credits.low", 45, 50)
    ]


async def test_m13_a_threshold_that_is_lowered_is_announced_when_it_is_crossed(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 100))
    await agree(pool, organization, 50)
    await post(pool, usage(organization, 55))
    await agree(pool, organization, 10)
    await post(pool, usage(organization, 1))
    await post(pool, usage(organization, 35))
    assert [(kind, data["balance"], data["threshold"]) for kind, data in await told(pool)] == [
        ("credits.low", 45, 50),
        ("credits.low", 9, 10),
    ]


async def test_m13_a_threshold_that_is_raised_above_the_balance_is_announced_at_the_next_debit(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 100))
    await agree(pool, organization, 10)
    await post(pool, usage(organization, 55))
    await agree(pool, organization, 50)
    for _ in range(2):
        await post(pool, usage(organization, 1))
    assert [(kind, data["balance"]) for kind, data in await told(pool)] == [("credits.low", 44)]


async def test_without_auto_recharge_nothing_is_low_unless_a_threshold_is_set_for_it(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 100))
    await agree(pool, organization, 50)
    async with pool.acquire() as connection, connection.transaction():
        await recharge.turn_off(connection, organization.id, actor="test", reason=None)
    await post(pool, usage(organization, 60))
    assert await kinds(pool) == []
    async with pool.acquire() as connection, connection.transaction():
        await store.set_low_balance_threshold(connection, organization.id, Decimal(30))
    await post(pool, usage(organization, 11))
    assert (await told(pool))[-1][1]["threshold"] == 30


async def test_a_debit_that_is_rolled_back_tells_nothing(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 12))
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await ledger.post(connection, [usage(organization, 12)])
        await transaction.rollback()
    assert await told(pool) == []


async def test_in_one_batch_each_organization_is_told_of_its_own(pool: Pool) -> None:
    owners = [await create_organization(pool, f"org-{n}") for n in range(3)]
    for owner in owners:
        await low_below(pool, owner, 10)
    await post(pool, *(grant(owner, 12) for owner in owners))
    await post(pool, *(usage(owner, 1) for owner in owners))
    await post(pool, usage(owners[0], 1), usage(owners[1], 2), usage(owners[2], 11))
    assert {(kind, data["organizationId"]) for kind, data in await told(pool)} == {
        ("credits.low", str(owners[1].id)),
        ("credits.depleted", str(owners[2].id)),
    }


async def test_a_grant_that_expires_within_a_week_is_told_once(
    pool: Pool, organization: Organization
) -> None:
    now = datetime.now(UTC)
    await post(
        pool,
        grant(organization, 3, expires_at=now + timedelta(days=6)),
        grant(organization, 4, expires_at=now + timedelta(days=8)),
        grant(organization, 5),
    )
    async with pool.acquire() as connection:
        assert await ledger.announce_expiring(connection, now=now) == 1
        assert await ledger.announce_expiring(connection, now=now) == 0
        assert await ledger.announce_expiring(connection, now=now + timedelta(days=2)) == 1
    found = await told(pool)
    assert [(kind, data["amount"]) for kind, data in found] == [
        ("credits.expiring", 3),
        ("credits.expiring", 4),
    ]
