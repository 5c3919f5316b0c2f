"""`budget.reached`: each threshold of a budget is announced once in a window, with the debit."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest_asyncio

from shared.ledger import service as ledger
from shared.ledger.batches import Ledger
from shared.organizations.model import Organization
from shared.outbound import service as outbound
from tests.fixtures.budgets import create_budget, set_clock
from tests.fixtures.ledger import grant, hold, post, usage

if TYPE_CHECKING:
    from shared.db.pool import Pool

JO: Any = {"user_id": "jo"}
DAY, NEXT = datetime(2031, 5, 1, 9, tzinfo=UTC), datetime(2031, 5, 2, tzinfo=UTC)


@pytest_asyncio.fixture(autouse=True)
async def listening(pool: Pool) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await outbound.add_endpoint(connection, url="http://127.0.0.1:9/hook", allow_private=True)


async def announced(pool: Pool) -> list[dict[str, Any]]:
    """Return the data of each message since the last call, by subject and threshold."""
    rows = await pool.fetch(
        "DELETE FROM outbound_messages WHERE type = 'budget.reached' RETURNING payload"
    )
    found = [msgspec.json.decode(row["payload"])["data"] for row in rows]
    return sorted(found, key=lambda data: (data["subject"], data["threshold"]))


async def reached(pool: Pool) -> list[tuple[str, int]]:
    return [(data["subject"], data["threshold"]) for data in await announced(pool)]


async def test_a_threshold_is_announced_once_with_its_numbers(
    pool: Pool, organization: Organization
) -> None:
    await set_clock(pool, organization, DAY)
    made = await create_budget(pool, organization, 10, window="day")
    await post(pool, grant(organization, 100), usage(organization, 7.5, **JO))
    assert await announced(pool) == []
    await post(pool, usage(organization, "0.5", **JO))
    assert await announced(pool) == [
        {
            "organizationId": str(organization.id),
            "budgetId": str(made.budget.id),
            "subjectKind": "user",
            "subject": "jo",
            "window": "day",
            "threshold": 80,
            "limit": 10,
            "used": 8,
            "resetsAt": "2031-05-02T00:00:00+00:00",
        }
    ]
    await post(pool, usage(organization, 1, **JO), usage(organization, 1, **JO))
    assert await reached(pool) == [("jo", 100)]
    await post(pool, usage(organization, 1, **JO))  # refused
    assert await reached(pool) == []
    await set_clock(pool, organization, NEXT)
    await post(pool, usage(organization, 10, **JO))
    assert await reached(pool) == [("jo", 80), ("jo", 100)]


async def test_each_subject_has_its_own_thresholds_also_in_a_shared_batch(
    pool: Pool, organization: Organization
) -> None:
    await create_budget(pool, organization, 10, subject="*", action="tell", thresholds=(50,))
    await create_budget(pool, organization, 100, subject="mia")
    await post(pool, grant(organization, 100))
    shared = Ledger(pool)
    # The budget of mia replaces the one of each user.
    for user, amount in (("jo", 3), ("mia", 6), ("jo", 3), ("ann", 3), ("jo", 3)):
        await shared.post(usage(organization, amount, user_id=user))
    assert await reached(pool) == [("jo", 50)]
    await shared.close()


async def test_a_hold_announces_nothing_until_its_usage_is_captured(
    pool: Pool, organization: Organization
) -> None:
    await create_budget(pool, organization, 10)
    await post(pool, grant(organization, 100))
    await hold(pool, organization, 10, **JO)
    assert await reached(pool) == []


async def test_a_debit_that_is_rolled_back_announces_and_counts_nothing(
    pool: Pool, organization: Organization
) -> None:
    await create_budget(pool, organization, 10)
    await post(pool, grant(organization, 100))
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await ledger.post(connection, [usage(organization, 10, **JO)])
        await transaction.rollback()
    assert await reached(pool) == []
    await post(pool, usage(organization, 10, **JO))
    assert await reached(pool) == [("jo", 80), ("jo", 100)]


async def test_a_leap_second_belongs_to_the_next_day(pool: Pool) -> None:
    """PostgreSQL's clock, as POSIX's, has none: it reads 23:59:60 as the next midnight."""
    end = await pool.fetchval(
        "SELECT ledger_window_end('day', '2016-12-31T23:59:60Z'::text::timestamptz)"
    )
    assert end == datetime(2017, 1, 2, tzinfo=UTC)
