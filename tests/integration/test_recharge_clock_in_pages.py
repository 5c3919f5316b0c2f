"""The clock of auto-recharge looks at a bounded part of the rules, and waits for no account."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from shared.recharge import service
from tests.fixtures.product import create_organization

if TYPE_CHECKING:
    from uuid import UUID

    from shared.db.pool import Pool

LOW_RULE = """
WITH rule AS (
    INSERT INTO auto_recharges (organization_id, state, threshold, amount, consented_at, not_before)
    SELECT id, 'active', 5, 10, now(), $2::timestamptz FROM unnest($1::uuid []) AS o (id)
)
UPDATE accounts SET recharge_below = 5 WHERE organization_id = any($1)
"""


async def low_organizations(
    pool: Pool, count: int, *, not_before: datetime | None = None
) -> list[UUID]:
    """Create organizations below their threshold for which nothing was armed, in order of ids."""
    made = [(await create_organization(pool, f"low-{place}")).id for place in range(count)]
    await pool.execute(LOW_RULE, made, not_before)
    return sorted(made)


async def tick(pool: Pool, after: UUID = service.FIRST, *, rules_max: int) -> UUID:
    async with pool.acquire() as connection, connection.transaction():
        return await service.tick(
            connection, now=datetime.now(UTC), after=after, rules_max=rules_max
        )


async def armed(pool: Pool) -> set[UUID]:
    rows = await pool.fetch("SELECT organization_id FROM recharge_attempts WHERE state = 'armed'")
    return {row["organization_id"] for row in rows}


async def test_the_clock_looks_at_a_page_of_the_rules_and_goes_on_behind_it(pool: Pool) -> None:
    low = await low_organizations(pool, 5)
    after = service.FIRST
    for seen, expected in ((2, low[1]), (4, low[3]), (5, service.FIRST)):
        after = await tick(pool, after, rules_max=2)
        assert (after, await armed(pool)) == (expected, set(low[:seen]))


async def test_a_rule_whose_wait_has_just_ended_is_looked_at_whatever_the_page(pool: Pool) -> None:
    low = await low_organizations(pool, 3, not_before=datetime.now(UTC))
    await tick(pool, low[-1], rules_max=2)
    assert await armed(pool) == set(low)


async def test_the_clock_arms_the_others_while_an_account_is_locked(pool: Pool) -> None:
    """R6: it waited for the lock, and armed nobody meanwhile."""
    low = await low_organizations(pool, 3)
    async with pool.acquire() as holder, holder.transaction():
        await holder.execute("SELECT FROM accounts WHERE organization_id = $1 FOR UPDATE", low[0])
        await tick(pool, rules_max=10)
        assert await armed(pool) == set(low[1:])
    await tick(pool, rules_max=10)
    assert await armed(pool) == set(low)
