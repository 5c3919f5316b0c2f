"""Alerts: each threshold of a balance is announced once for each crossing, down and up."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import pytest_asyncio

from shared.budgets import service
from shared.organizations.model import Organization
from shared.outbound import service as outbound
from tests.fixtures.ledger import grant, post, usage

if TYPE_CHECKING:
    from shared.db.pool import Pool

LOW, RECOVERED, DEPLETED = "credits.low", "credits.recovered", "credits.depleted"


@pytest_asyncio.fixture(autouse=True)
async def listening(pool: Pool) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await outbound.add_endpoint(connection, url="http://127.0.0.1:9/hook", allow_private=True)


async def set_alerts(pool: Pool, owner: Organization, thresholds: Sequence[Any]) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await service.set_alerts(
            connection, owner.id, [Decimal(t) for t in thresholds], actor="tests"
        )


async def announced(pool: Pool) -> list[tuple[str, Any]]:
    """Return the type and the threshold of each message since the last call."""
    rows = await pool.fetch("DELETE FROM outbound_messages RETURNING type, payload, created_at, id")
    found = [(row["type"], msgspec.json.decode(row["payload"])["data"]) for row in rows]
    return sorted((kind, data["threshold"]) for kind, data in found)


async def move(pool: Pool, owner: Organization, *amounts: int) -> list[tuple[str, Any]]:
    await post(pool, *(grant(owner, a) if a > 0 else usage(owner, -a) for a in amounts))
    return await announced(pool)


async def test_each_threshold_is_announced_once_on_the_way_down_and_up(
    pool: Pool, organization: Organization
) -> None:
    await set_alerts(pool, organization, [10, 50, 90])
    assert await move(pool, organization, 100) == []
    assert await move(pool, organization, -11) == [(LOW, 90)]
    assert await move(pool, organization, -1) == []
    assert await move(pool, organization, -80) == [(LOW, 10), (LOW, 50)]
    assert await move(pool, organization, -1) == []
    assert await move(pool, organization, 43) == [(RECOVERED, 10), (RECOVERED, 50)]
    assert await move(pool, organization, -1) == [(LOW, 50)]
    assert await move(pool, organization, 200) == [(RECOVERED, 50), (RECOVERED, 90)]


async def test_thresholds_need_no_auto_recharge_and_join_the_one_of_the_settings(
    pool: Pool, organization: Organization
) -> None:
    await set_alerts(pool, organization, [50])
    await pool.execute("UPDATE accounts SET low_below = 20")
    assert await move(pool, organization, 100) == []
    assert await move(pool, organization, -90) == [(LOW, 20), (LOW, 50)]


async def test_an_empty_balance_is_announced_instead_of_the_thresholds_above_it(
    pool: Pool, organization: Organization
) -> None:
    await set_alerts(pool, organization, [10, 50])
    await move(pool, organization, 100)
    assert await move(pool, organization, -100) == [(DEPLETED, None)]
    assert await move(pool, organization, 20) == [(RECOVERED, 10)]
    assert await move(pool, organization, -1) == []
    assert await move(pool, organization, -19) == [(DEPLETED, None)]
    assert await move(pool, organization, 60) == [(RECOVERED, 10), (RECOVERED, 50)]


async def test_a_new_threshold_above_the_balance_is_announced_with_the_next_debit(
    pool: Pool, organization: Organization
) -> None:
    await set_alerts(pool, organization, [90])
    await move(pool, organization, 100)
    assert await move(pool, organization, -20) == [(LOW, 90)]
    await set_alerts(pool, organization, [85, 90])
    assert await move(pool, organization, 1) == []
    assert await move(pool, organization, -1) == [(LOW, 85)]
    await set_alerts(pool, organization, [])
    assert await move(pool, organization, -70) == []


@pytest.mark.parametrize(("was_announced", "expected"), [(False, [(LOW, 50)]), (True, [])])
async def test_an_account_as_an_older_release_wrote_it_goes_on_from_there(
    pool: Pool, organization: Organization, was_announced: bool, expected: list[Any]
) -> None:
    await move(pool, organization, 40)
    await pool.execute("UPDATE accounts SET low_below = 50")
    await pool.execute(
        "UPDATE accounts SET alert_below = NULL, alert_above = NULL, low_announced = $1",
        was_announced,
    )
    assert await move(pool, organization, -1) == expected
    assert await move(pool, organization, 20) == [(RECOVERED, 50)]


async def test_many_debits_between_two_thresholds_are_plain(
    pool: Pool, organization: Organization
) -> None:
    """What stands in the way of a plain batch is one comparison: the next threshold below."""
    await set_alerts(pool, organization, [10, 50])
    await move(pool, organization, 100)
    assert await move(pool, organization, -60) == [(LOW, 50)]
    async with pool.acquire() as connection:
        plain = await connection.fetchval(
            "SELECT (ledger_plain_organizations(ARRAY(SELECT jsonb_populate_record("
            "NULL::ledger_posting, jsonb_build_object('organization_id', $1::uuid, 'amount', a,"
            " 'type', 'usage')) FROM unnest(ARRAY[-9, -10, -10]) AS a), now())).plain",
            organization.id,
        )
    assert plain == [organization.id]
    assert await move(pool, organization, -9, -10, -10, -2) == [(LOW, 10)]
