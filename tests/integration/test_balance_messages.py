"""What the customer's app is told of a balance: low, nothing left, about to expire; once each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest_asyncio

from shared.ledger import service as ledger
from shared.notifications import service as notifications
from shared.organizations.model import Organization
from tests.fixtures.ledger import grant, post, usage
from tests.fixtures.product import create_organization

if TYPE_CHECKING:
    from shared.db.pool import Pool


@pytest_asyncio.fixture(autouse=True)
async def listening(pool: Pool) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await notifications.add_endpoint(
            connection, url="http://127.0.0.1:9/hook", allow_private=True
        )


async def told(pool: Pool) -> list[tuple[str, dict[str, Any]]]:
    rows = await pool.fetch("SELECT type, payload FROM outbound_messages ORDER BY created_at, id")
    return [(row["type"], msgspec.json.decode(row["payload"])["data"]) for row in rows]


async def low_below(pool: Pool, owner: Organization, amount: int) -> None:
    await pool.execute(
        "UPDATE accounts SET low_below = $2 WHERE organization_id = $1", owner.id, Decimal(amount)
    )


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
    assert [kind for kind, _ in await told(pool)] == ["credits.low", "credits.low"]


async def test_a_balance_at_nothing_is_told_once(pool: Pool, organization: Organization) -> None:
    await low_below(pool, organization, 10)
    await post(pool, grant(organization, 12))
    await post(pool, usage(organization, 1), usage(organization, 11))
    await post(pool, usage(organization, 1, may_overdraw=True))
    assert [kind for kind, _ in await told(pool)] == ["credits.depleted"]


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
        assert await ledger.tell_expiring(connection, now=now) == 1
        assert await ledger.tell_expiring(connection, now=now) == 0
        assert await ledger.tell_expiring(connection, now=now + timedelta(days=2)) == 1
    found = await told(pool)
    assert [(kind, data["amount"]) for kind, data in found] == [
        ("credits.expiring", 3),
        ("credits.expiring", 4),
    ]
