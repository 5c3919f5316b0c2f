"""Many at once at a budget: never over, never a false refusal, also while a window turns."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from shared.invariants.catalog import budget_counters
from shared.ledger import service as ledger_service
from shared.ledger.batches import Ledger
from shared.ledger.model import BudgetExceeded
from shared.organizations.model import Organization
from tests.fixtures.budgets import create_budget, numbers, set_clock
from tests.fixtures.ledger import grant, post, usage
from tests.fixtures.product import sessions_wait

if TYPE_CHECKING:
    from shared.budgets.model import BudgetState
    from shared.db.pool import Pool

WRITERS = 64


async def assert_no_drift(pool: Pool, owner: Organization) -> None:
    async with pool.acquire() as connection:
        assert await budget_counters(connection, [owner.id], 10) == []


@pytest.mark.parametrize("through", ["the batcher", "connections of their own"])
async def test_64_writers_at_a_budget_use_exactly_what_it_allows(
    pool: Pool, organization: Organization, through: str
) -> None:
    made = await create_budget(pool, organization, 100)
    await post(pool, grant(organization, 10_000))
    ledger = Ledger(pool)

    async def write(_: int) -> list[Any]:
        asked = [usage(organization, 1, user_id="jo") for _ in range(3)]
        if through == "the batcher":
            return [await ledger.post(posting) for posting in asked]
        return [(await post(pool, posting))[0] for posting in asked]

    answers = [r for found in await asyncio.gather(*map(write, range(WRITERS))) for r in found]
    refused = [r for r in answers if isinstance(r, BudgetExceeded)]
    assert (len(answers) - len(refused), len(refused)) == (100, WRITERS * 3 - 100)
    assert all(r.shortfall.available < r.shortfall.required for r in refused)
    assert await numbers(pool, made) == {"jo": (100, 0)}
    await assert_no_drift(pool, organization)
    await ledger.close()


async def test_a_window_that_turns_under_load_allows_its_limit_on_each_side(
    pool: Pool, organization: Organization
) -> None:
    before = datetime(2031, 1, 31, 23, 59, 59, 999999, tzinfo=UTC)
    turn = datetime(2031, 2, 1, tzinfo=UTC)
    await create_budget(pool, organization, 20, window="day")
    await post(pool, grant(organization, 10_000))
    await set_clock(pool, organization, before)
    ledger = Ledger(pool)
    refusals: list[datetime | None] = []
    turned = asyncio.Event()

    async def write(number: int) -> None:
        while True:
            result = await ledger.post(usage(organization, 1, user_id="jo"))
            if not isinstance(result, BudgetExceeded):
                continue
            refusals.append(result.shortfall.resets_at)
            if result.shortfall.resets_at != turn:
                return
            if number == 0 and not turned.is_set():
                await set_clock(pool, organization, turn)
                turned.set()
            await turned.wait()

    await asyncio.gather(*map(write, range(16)))
    rows = await pool.fetch(
        "SELECT created_at, -sum(amount) AS used FROM credit_transactions WHERE type = 'usage'"
        " GROUP BY created_at ORDER BY created_at"
    )
    assert [tuple(row) for row in rows] == [(before, Decimal(20)), (turn, Decimal(20))]
    assert turn in refusals
    await assert_no_drift(pool, organization)
    await ledger.close()


async def test_budgets_that_are_created_and_removed_under_load_count_every_row(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 10_000))
    ledger = Ledger(pool)
    made: list[BudgetState] = []

    async def write(_: int) -> None:
        for _ in range(10):
            await ledger.post(usage(organization, 1, user_id="jo"))

    async def limit(window: str) -> None:
        made.append(await create_budget(pool, organization, 10**6, window=window))

    windows = ("hour", "day", "month", "total")
    await asyncio.gather(*map(write, range(16)), *map(limit, windows))
    for state in made:
        assert await numbers(pool, state) == {"jo": (160, 0)}
    await assert_no_drift(pool, organization)
    await ledger.close()


async def test_a_budget_whose_window_turns_while_it_is_created_counts_the_new_window(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 100))
    await set_clock(pool, organization, datetime(2031, 1, 31, 23, 59, 59, tzinfo=UTC))
    await post(pool, usage(organization, 3, user_id="jo"), usage(organization, 2, user_id="mia"))
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "UPDATE accounts SET updated_at = $1", datetime(2031, 2, 1, tzinfo=UTC)
        )
        creating = asyncio.create_task(
            create_budget(pool, organization, 10, subject="*", window="day")
        )
        await sessions_wait(pool)
        await ledger_service.post(connection, [usage(organization, 4, user_id="jo")])
    made = await creating
    assert await numbers(pool, made) == {"jo": (4, 0)}
    await assert_no_drift(pool, organization)
