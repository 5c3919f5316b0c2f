"""Verification compares the totals by dimension with the rows of usage that they break down."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from shared.ledger.verification import verify
from tests.fixtures.ledger import grant, post, usage

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

LIMIT = "CREATE OR REPLACE FUNCTION ledger_subjects_max() RETURNS integer LANGUAGE sql IMMUTABLE"
HOUR = timedelta(hours=1)
LATER = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - HOUR


async def some_usage(
    pool: Pool, owner: Organization, *dimensions: str, since: datetime = LATER - 3 * HOUR
) -> None:
    """Post usage of three users in two hours, with dimensions that are on since a moment."""
    await pool.execute(
        "UPDATE accounts SET usage_dimensions = $2, usage_dimensions_since = $3"
        " WHERE organization_id = $1",
        owner.id, [*dimensions], since,
    )  # fmt: skip
    await post(pool, grant(owner, 100))
    for effective_at in (LATER - HOUR, LATER):
        for number, name in enumerate("abc", 1):
            await post(
                pool,
                usage(owner, number, user_id=name, category="chat", effective_at=effective_at),
            )


async def problems(pool: Pool, *, whole: bool = True) -> list[str]:
    async with pool.acquire() as connection:
        found = await verify(connection, whole=whole)
    return [problem["problem"] for problem in found["problems"]]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE usage_breakdowns SET cost = cost + 1",
        "UPDATE usage_breakdowns SET quantity = quantity + 1",
        "UPDATE usage_breakdowns SET transactions = transactions - 1",
        "DELETE FROM usage_breakdowns",
        'UPDATE usage_breakdowns SET subject = \'{"user": "x"}\'',
    ],
)
async def test_totals_that_were_changed_are_named_by_their_hour(
    pool: Pool, organization: Organization, statement: str
) -> None:
    await some_usage(pool, organization, "user")
    assert await problems(pool) == []
    await pool.execute(f"{statement} WHERE hour = $1 AND subject ->> 'user' = 'b'", LATER)
    (problem,) = await problems(pool)
    assert problem.startswith("usage totals by dimension are not the sums of their rows: from")
    assert problem.endswith(f" {LATER:%Y-%m-%d %H}:00:00+00")


async def test_usage_moved_between_subjects_is_a_difference(
    pool: Pool, organization: Organization
) -> None:
    await some_usage(pool, organization, "user")
    await pool.execute(
        "UPDATE usage_breakdowns"
        " SET cost = cost + CASE subject ->> 'user' WHEN 'a' THEN 1 WHEN 'b' THEN -1 ELSE 0 END"
    )
    assert len(await problems(pool)) == 2


async def test_the_rest_of_a_full_hour_may_be_of_any_subject_and_is_part_of_the_sum(
    pool: Pool, organization: Organization
) -> None:
    await pool.execute(f"{LIMIT} AS $$ SELECT 1 $$")
    await some_usage(pool, organization, "user", "category")
    assert await pool.fetchval("SELECT count(*) FROM usage_breakdowns WHERE subject ? 'rest'") == 2
    assert await problems(pool) == []
    await pool.execute("UPDATE usage_breakdowns SET cost = cost - 1 WHERE subject ? 'rest'")
    assert len(await problems(pool)) == 2
    await pool.execute(
        "UPDATE usage_breakdowns SET cost = cost + CASE WHEN subject ? 'rest' THEN 0 ELSE 1 END"
    )
    assert len(await problems(pool)) == 2, "a subject has more than its rows"


async def test_totals_of_more_dimensions_than_are_on_now_are_still_those_of_their_rows(
    pool: Pool, organization: Organization
) -> None:
    await some_usage(pool, organization, "user", "category")
    await pool.execute("UPDATE accounts SET usage_dimensions = '{category}'")
    await post(pool, usage(organization, 1, user_id="a", category="chat"))
    assert await problems(pool) == []
    await pool.execute("UPDATE usage_breakdowns SET cost = 0 WHERE hour = $1", LATER)
    assert len(await problems(pool)) == 1


async def test_hours_before_dimensions_were_on_and_daily_runs_are_not_compared(
    pool: Pool, organization: Organization
) -> None:
    await some_usage(pool, organization, "user", since=LATER - 2 * HOUR + timedelta(minutes=1))
    await pool.execute("UPDATE usage_breakdowns SET cost = 0 WHERE hour < $1", LATER)
    assert await problems(pool) == [], "the hour in which they were turned on, and the next"
    await pool.execute("UPDATE usage_breakdowns SET cost = 0")
    assert await problems(pool, whole=False) == []
    assert len(await problems(pool)) == 1
    await pool.execute("UPDATE accounts SET usage_dimensions = NULL, usage_dimensions_since = NULL")
    assert await problems(pool) == []
