"""Many at once on one organization: never below its limit, never a false refusal, no deadlock."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from shared.ledger.batches import Ledger
from shared.ledger.model import InsufficientCredits, PostedTransaction, PostingStatus
from shared.ledger.verification import verify
from tests.fixtures.ledger import (
    balances,
    grant,
    limit_overdraft,
    make_due,
    post,
    statuses,
    try_hold,
    usage,
)
from tests.fixtures.product import WAIT_SECONDS_MAX, create_organization
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
    await limit_overdraft(pool, organization.id, overdraft)
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
    seqs = sorted(r.seq for r in results if isinstance(r, PostedTransaction))
    assert seqs == list(range(2, WRITERS + 2))
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
    await asyncio.gather(*(Expirer(pool).expire() for _ in range(4)))
    count = await pool.fetchval(
        "SELECT count(*) FROM credit_transactions WHERE type = 'expiration'"
    )
    assert count == 5
    assert await balances(pool, organization) == (0, 0)


@pytest.mark.parametrize("overdraft", [0, "7.5"])
async def test_every_way_in_at_once_meets_one_limit(
    pool: Pool, organization: Organization, overdraft: Any
) -> None:
    """The batcher, connections of their own, whole batches, holds: what fits is taken exactly."""
    await limit_overdraft(pool, organization.id, Decimal(overdraft))
    await post(pool, *(grant(organization, "12.5") for _ in range(8)))
    ledger = Ledger(pool)
    half = Decimal("0.5")

    async def batched() -> list[str]:
        return [(await ledger.post(usage(organization, half))).status.value for _ in range(3)]

    async def direct() -> list[str]:
        return await statuses(pool, *(usage(organization, half) for _ in range(3)))

    async def held() -> list[str]:
        return [(await try_hold(pool, organization, half)).status.value for _ in range(3)]

    ways = [batched, direct, held, batched]
    parts = await asyncio.gather(*(ways[n % len(ways)]() for n in range(WRITERS * 2)))
    await ledger.close()
    found = [status for part in parts for status in part]
    fits = int((100 + Decimal(overdraft)) / half)
    assert fits < len(found), "the limit is reached"
    assert found.count("posted") == fits
    assert found.count("insufficient") == len(found) - fits
    balance, on_hold = await balances(pool, organization)
    assert balance - on_hold == -Decimal(overdraft)
    async with pool.acquire() as connection:
        assert (await verify(connection))["problems"] == []


async def test_a_refusal_was_true_when_it_was_given(pool: Pool, organization: Organization) -> None:
    """Gains come among the debits: a debit is refused for a balance that did not cover it."""
    asked = [grant(organization, 2) if n % 2 else usage(organization, 3) for n in range(120)]
    ledger = Ledger(pool)
    results = await asyncio.gather(*map(ledger.post, asked))
    await ledger.close()
    for posting, result in zip(asked, results, strict=True):
        assert posting.amount is not None
        if isinstance(result, InsufficientCredits):
            assert result.shortfall.balance + posting.amount < 0
        else:
            assert isinstance(result, PostedTransaction)
            assert result.status is PostingStatus.POSTED
            assert result.balance_after >= 0
    async with pool.acquire() as connection:
        assert (await verify(connection))["problems"] == []


async def test_batches_and_settlements_in_opposite_orders_do_not_deadlock(pool: Pool) -> None:
    owners = [await create_organization(pool, f"org-{n}") for n in range(6)]
    soon = datetime.now(UTC) + timedelta(days=1)
    made = await post(pool, *(grant(owner, 1, expires_at=soon) for owner in owners * 5))

    async def write(name: int) -> None:
        for n in range(8):
            order = owners if (name + n) % 2 else owners[::-1]
            both = [(grant(owner, 2), usage(owner, 1)) for owner in order]
            assert set(await statuses(pool, *(p for pair in both for p in pair))) == {"posted"}

    async def let_expire() -> None:
        for result in made:
            assert result.id is not None
            await make_due(pool, "credit_grants", result.id)
            await Expirer(pool).expire()

    async with asyncio.timeout(WAIT_SECONDS_MAX):
        await asyncio.gather(*map(write, range(4)), let_expire(), Expirer(pool).expire())
    async with pool.acquire() as connection:
        assert (await verify(connection))["problems"] == []
    assert await pool.fetchval("SELECT count(*) FROM accounts WHERE next_due_at < now()") == 0


async def test_what_is_due_is_posted_once_by_expirers_and_postings_at_once(
    pool: Pool, organization: Organization
) -> None:
    soon = datetime.now(UTC) + timedelta(days=1)
    made = await post(pool, *(grant(organization, 1, expires_at=soon) for _ in range(6)))
    kept = await post(pool, grant(organization, 10))
    for result in made:
        assert result.id is not None
        await make_due(pool, "credit_grants", result.id)
    await asyncio.gather(
        *(Expirer(pool).expire() for _ in range(2)),
        *(statuses(pool, usage(organization, 1)) for _ in range(6)),
        *(try_hold(pool, organization, 1) for _ in range(2)),
    )
    rows = await pool.fetch("SELECT * FROM credit_transactions WHERE type = 'expiration'")
    assert {row["grant_id"] for row in rows} == {result.id for result in made}
    assert sum(row["amount"] for row in rows) == -6
    assert kept[0].status == "posted"
    assert await balances(pool, organization) == (4, 2)


async def test_one_key_through_the_batcher_and_beside_it_posts_once(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 10))
    ledger = Ledger(pool)
    asked = usage(organization, 1, key="once")
    batched, direct = await asyncio.gather(
        asyncio.gather(*(ledger.post(asked) for _ in range(20))),
        asyncio.gather(*(post(pool, asked) for _ in range(8))),
    )
    await ledger.close()
    results = [*batched, *(result for (result,) in direct)]
    found = [result.status.value for result in results]
    assert sorted(found) == ["posted"] + ["replayed"] * 27
    assert len({result.id for result in results}) == 1
    assert await balances(pool, organization) == (9, 0)


async def test_a_refused_or_invalid_posting_does_not_harm_those_it_shares_a_commit_with(
    pool: Pool, organization: Organization
) -> None:
    ledger = Ledger(pool)
    results = await asyncio.gather(
        ledger.post(usage(organization, 1)),
        ledger.post(grant(organization, "nan")),
        ledger.post(grant(organization, 5)),
        ledger.post(grant(organization, 5, description="\0")),
        ledger.post(usage(organization, 5)),
    )
    await ledger.close()
    found = [result.status.value for result in results]
    assert found == ["insufficient", "invalid", "posted", "invalid", "posted"]


async def test_a_moment_without_a_zone_does_not_harm_those_it_shares_a_commit_with(
    pool: Pool, organization: Organization
) -> None:
    ledger = Ledger(pool)
    naive = datetime.now(UTC).replace(tzinfo=None) + timedelta(days=1)
    first = asyncio.create_task(ledger.post(grant(organization, 1)))
    others = [
        asyncio.create_task(ledger.post(grant(organization, 5, **fields)))
        for fields in ({}, {"expires_at": naive}, {"effective_at": naive}, {})
    ]
    results: list[Any] = await asyncio.gather(first, *others, return_exceptions=True)
    await ledger.close()
    assert [getattr(result, "status", result) for result in results] == [
        *("posted", "posted"),
        *("invalid", "invalid"),
        "posted",
    ]
