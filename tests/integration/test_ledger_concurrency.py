"""Many at once on one organization: never below its limit, never a false refusal, no deadlock."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from shared.ledger.model import PostingStatus
from shared.ledger.service import Ledger
from shared.ledger.verification import verify
from tests.fixtures.ledger import (
    balances,
    grant,
    make_due,
    post,
    statuses,
    try_hold,
    usage,
)
from worker.expirer import Expirer

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

WRITERS = 64


@pytest.mark.parametrize("overdraft", [0, 7])
@pytest.mark.parametrize("through", ["the batcher", "connections of their own"])
async def test_64_writers_at_the_limit_spend_exactly_what_there_is(
    pool: Pool, organization: Organization, overdraft: int, through: str
) -> None:
    await pool.execute("UPDATE accounts SET overdraft_limit = $1", overdraft)
    await post(pool, grant(organization, 100))
    ledger = Ledger(pool)

    async def write(_: int) -> list[str]:
        asked = [usage(organization, 1) for _ in range(4)]
        if through == "the batcher":
            return [(await ledger.post(posting)).status.value for posting in asked]
        return [(await statuses(pool, posting))[0] for posting in asked]

    found = [s for answers in await asyncio.gather(*map(write, range(WRITERS))) for s in answers]
    assert found.count("posted") == 100 + overdraft
    assert found.count("insufficient") == WRITERS * 4 - 100 - overdraft
    assert await balances(pool, organization) == (-overdraft, 0)
    async with pool.acquire() as connection:
        assert (await verify(connection))["ok"]
    await ledger.close()


async def test_callers_that_come_together_share_a_commit(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 100))
    ledger = Ledger(pool)
    results = await asyncio.gather(*(ledger.post(usage(organization, 1)) for _ in range(WRITERS)))
    assert {result.status for result in results} == {PostingStatus.POSTED}
    assert sorted(result.seq or 0 for result in results) == list(range(2, WRITERS + 2))
    commits = await pool.fetchval("SELECT count(DISTINCT xmin::text) FROM credit_transactions")
    assert commits < WRITERS / 4


async def test_a_caller_that_goes_away_harms_nobody(pool: Pool, organization: Organization) -> None:
    await post(pool, grant(organization, 100))
    ledger = Ledger(pool)
    calls = [asyncio.create_task(ledger.post(usage(organization, 1))) for _ in range(20)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    results: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
    assert all(result.status == "posted" for result in results[1::2])
    await ledger.close()
    balance, _ = await balances(pool, organization)
    assert Decimal(80) <= balance <= Decimal(90)


async def test_holds_and_debits_together_never_take_more_than_there_is(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 50))
    answers: list[Any] = await asyncio.gather(
        *(try_hold(pool, organization, 1) for _ in range(40)),
        *(post(pool, usage(organization, 1)) for _ in range(40)),
    )
    held = sum(not isinstance(a, list) and a.status == "posted" for a in answers)
    spent = sum(isinstance(a, list) and a[0].status == "posted" for a in answers)
    assert held + spent == 50
    assert await balances(pool, organization) == (50 - spent, held)


async def test_two_expirers_at_once_settle_once(pool: Pool, organization: Organization) -> None:
    results = await post(pool, *(grant(organization, 1) for _ in range(5)))
    for result in results:
        assert result.id is not None
        await make_due(pool, "credit_grants", result.id)
    await asyncio.gather(*(Expirer(pool).settle() for _ in range(4)))
    count = await pool.fetchval(
        "SELECT count(*) FROM credit_transactions WHERE type = 'expiration'"
    )
    assert count == 5
    assert await balances(pool, organization) == (0, 0)
