"""Holds in budgets: they count while they are active, and move to what is used at their capture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.closing import service as closing
from shared.ledger.holds import service as holds
from shared.ledger.holds.model import Hold
from shared.ledger.model import BudgetExceeded, Posting, TransactionType
from shared.organizations.model import Organization
from tests.fixtures.budgets import create_budget, numbers
from tests.fixtures.ledger import (
    grant,
    hold,
    make_due,
    post,
    posting,
    release,
    statuses,
    try_hold,
    usage,
)

if TYPE_CHECKING:
    from shared.db.pool import Pool

JO: Any = {"user_id": "jo"}


def capture(owner: Organization, of: Hold, amount: Any, **fields: Any) -> Posting:
    used = -float(amount)
    return posting(owner, TransactionType.HOLD_CAPTURE, used, hold_id=of.id, **JO | fields)


async def test_a_hold_counts_and_is_refused_where_the_budget_has_not_enough_left(
    pool: Pool, organization: Organization
) -> None:
    made = await create_budget(pool, organization, 10)
    await post(pool, grant(organization, 100), usage(organization, 3, **JO))
    await hold(pool, organization, 4, **JO)
    assert await numbers(pool, made) == {"jo": (3, 4)}
    refused = await try_hold(pool, organization, 4, **JO)
    assert isinstance(refused, BudgetExceeded)
    shortfall = refused.shortfall
    assert [shortfall.used, shortfall.held, shortfall.required, shortfall.available] == [3, 4, 4, 3]
    assert await statuses(pool, usage(organization, 4, **JO)) == ["budget_exceeded"]
    assert await statuses(pool, usage(organization, 3, **JO)) == ["posted"]


async def test_a_capture_moves_from_held_to_used_and_counts_once(
    pool: Pool, organization: Organization
) -> None:
    made = await create_budget(pool, organization, 10)
    await post(pool, grant(organization, 100))
    held = await hold(pool, organization, 10, **JO)
    part = capture(organization, held, 2, partial=True)
    assert await statuses(pool, part, part) == ["posted", "replayed"]
    assert await numbers(pool, made) == {"jo": (2, 8)}
    assert await statuses(pool, capture(organization, held, 5)) == ["posted"]
    assert await numbers(pool, made) == {"jo": (7, 0)}


async def test_a_capture_within_its_hold_is_never_refused_and_beyond_it_the_budget_decides(
    pool: Pool, organization: Organization
) -> None:
    made = await create_budget(pool, organization, 10)
    await post(pool, grant(organization, 100))
    held = await hold(pool, organization, 8, **JO)
    await pool.execute("UPDATE budgets SET limit_amount = 5")
    beyond = capture(organization, held, 9, may_overdraw=True)
    assert await statuses(pool, beyond) == ["budget_exceeded"]
    assert await numbers(pool, made) == {"jo": (0, 8)}
    assert await statuses(pool, capture(organization, held, 8)) == ["posted"]
    held = await hold(pool, organization, 1, user_id="mia")
    has_happened = capture(organization, held, 3, may_overdraw=True, past_limit=True)
    assert await statuses(pool, has_happened) == ["posted"]
    assert await numbers(pool, made) == {"jo": (11, 0)}


async def test_a_capture_that_lowers_a_budget_is_not_refused_by_it(
    pool: Pool, organization: Organization
) -> None:
    made = await create_budget(pool, organization, 20)
    await post(pool, grant(organization, 100))
    held, _ = [await hold(pool, organization, 8, **JO) for _ in range(2)]
    await pool.execute("UPDATE budgets SET limit_amount = 5")
    beyond = capture(organization, held, 9, may_overdraw=True, user_id="mia")
    assert await statuses(pool, beyond) == ["posted"]
    assert await numbers(pool, made) == {"jo": (0, 8)}


async def test_a_released_and_an_expired_hold_leave_the_budget(
    pool: Pool, organization: Organization
) -> None:
    made = await create_budget(pool, organization, 10)
    await post(pool, grant(organization, 100))
    released, captured, expired = [await hold(pool, organization, 3, **JO) for _ in range(3)]
    assert await release(pool, organization, released.id) == "posted"
    assert await numbers(pool, made) == {"jo": (0, 6)}
    async with pool.acquire() as connection, connection.transaction():
        await holds.capture_nothing(connection, organization.id, captured.id)
    assert await numbers(pool, made) == {"jo": (0, 3)}
    await make_due(pool, "holds", expired.id)
    assert await numbers(pool, made) == {}
    assert await statuses(pool, usage(organization, 10, **JO)) == ["posted"]
    assert await numbers(pool, made) == {"jo": (10, 0)}


async def test_holds_that_a_forced_close_releases_leave_the_budget(
    pool: Pool, organization: Organization
) -> None:
    made = await create_budget(pool, organization, 10)
    await post(pool, grant(organization, 100))
    part = await hold(pool, organization, 4, **JO)
    await hold(pool, organization, 3, **JO)
    await post(pool, capture(organization, part, 1, partial=True))
    assert await numbers(pool, made) == {"jo": (1, 6)}
    async with pool.acquire() as connection, connection.transaction():
        await closing.close(connection, organization, actor="tests", reason="ended", force=True)
        await closing.reopen(connection, organization, actor="tests", reason="again")
    assert await numbers(pool, made) == {"jo": (1, 0)}
    assert await statuses(pool, usage(organization, 9, **JO)) == ["posted"]


async def test_a_budget_counts_the_holds_that_were_there_before_it(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 100))
    first = await hold(pool, organization, 6, **JO)
    await post(pool, capture(organization, first, 1, partial=True))
    await hold(pool, organization, 3, user_id="mia", metadata={"prepaid:tags": ["a"]})
    made = await create_budget(pool, organization, 10, subject="*")
    assert await numbers(pool, made) == {"jo": (1, 5), "mia": (0, 3)}
    tagged = await create_budget(pool, organization, 10, kind="tag", subject="a")
    assert await numbers(pool, tagged) == {"a": (0, 3)}


async def test_a_hold_is_that_of_its_own_subject_and_its_capture_of_the_rows(
    pool: Pool, organization: Organization
) -> None:
    made = await create_budget(pool, organization, 10, subject="*")
    await post(pool, grant(organization, 100))
    held = await hold(pool, organization, 6, **JO)
    assert await statuses(pool, capture(organization, held, 4, user_id="mia")) == ["posted"]
    assert await numbers(pool, made) == {"mia": (4, 0)}


async def test_expired_holds_leave_the_budgets_once_though_they_are_closed_later(
    pool: Pool, organization: Organization
) -> None:
    """A posting takes all that have expired out of budgets, and closes 20 of them."""
    made = await create_budget(pool, organization, 100)
    await post(pool, grant(organization, 100))
    early = [(await hold(pool, organization, 1, **JO)).id for _ in range(22)]
    late = [(await hold(pool, organization, 2, **JO)).id]
    await hold(pool, organization, 5, **JO)
    for used, expiring, window in ((1, early, "day"), (2, late, "total")):
        await pool.execute(
            "UPDATE holds SET expires_at = clock_timestamp() WHERE id = any($1::uuid [])", expiring
        )
        await pool.execute("UPDATE accounts SET next_due_at = clock_timestamp()")
        await post(pool, usage(organization, 1, **JO))
        held = 5 if expiring is late else 7
        later = await create_budget(pool, organization, 100, window=window)
        for state in (made, later):
            assert await numbers(pool, state) == {"jo": (used, held)}
        if expiring is early:
            left = await pool.fetchval("SELECT count(*) FROM holds WHERE status = 'active'")
            assert left == 4
