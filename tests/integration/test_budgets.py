"""Budgets: what they refuse, what they count, and when they count anew."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared.budgets import rules
from shared.errors import (
    AlreadyExistsError,
    ConflictError,
    OrganizationClosedError,
    ValidationError,
)
from shared.ledger.model import BudgetExceeded, PostedTransaction, TransactionType
from shared.organizations.model import Organization
from tests.fixtures.budgets import budget_of, create_budget, numbers, set_clock
from tests.fixtures.ledger import balances, grant, post, posting, statuses, usage

if TYPE_CHECKING:
    from shared.db.pool import Pool

KEY = "01a2b3c4-0000-7000-8000-000000000001"
TAGGED = {"prepaid:key": KEY, "prepaid:tags": ["alpha", "beta"]}


async def test_usage_beyond_a_budget_is_refused_with_the_numbers_and_changes_nothing(
    pool: Pool, organization: Organization
) -> None:
    made = await create_budget(pool, organization, 10)
    await post(pool, grant(organization, 100), usage(organization, 7, user_id="jo"))
    (refused,) = await post(pool, usage(organization, 4, user_id="jo"))
    assert isinstance(refused, BudgetExceeded)
    shortfall = refused.shortfall
    assert (shortfall.budget_id, shortfall.subject) == (made.budget.id, "jo")
    assert [shortfall.limit, shortfall.used, shortfall.held] == [10, 7, 0]
    assert [shortfall.required, shortfall.available] == [4, 3]
    assert shortfall.resets_at == made.resets_at
    assert await balances(pool, organization) == (93, 0)
    assert await statuses(pool, usage(organization, 3, user_id="jo")) == ["posted"]


async def test_a_budget_is_that_of_its_subject_alone(
    pool: Pool, organization: Organization
) -> None:
    await create_budget(pool, organization, 1)
    await post(pool, grant(organization, 100))
    others = usage(organization, 5, user_id="mia"), usage(organization, 5)
    assert await statuses(pool, *others) == ["posted", "posted"]


@pytest.mark.parametrize(
    ("kind", "subject"),
    [("user", "jo"), ("key", KEY), ("category", "tokens"), ("tag", "beta")],
)
async def test_each_kind_of_subject_is_limited(
    pool: Pool, organization: Organization, kind: str, subject: str
) -> None:
    made = await create_budget(pool, organization, 5, kind=kind, subject=subject)
    fields: Any = {"user_id": "jo", "category": "tokens", "metadata": TAGGED}
    await post(pool, grant(organization, 100))
    asked = [usage(organization, 3, **fields), usage(organization, 3, **fields)]
    assert await statuses(pool, *asked) == ["posted", "budget_exceeded"]
    assert await numbers(pool, made) == {subject: (3, 0)}


async def test_a_budget_of_each_subject_limits_each_by_itself(
    pool: Pool, organization: Organization
) -> None:
    made = await create_budget(pool, organization, 5, kind="tag", subject="*")
    await post(pool, grant(organization, 100))
    both = usage(organization, 3, metadata=TAGGED)
    alpha = usage(organization, 3, metadata={"prepaid:tags": ["alpha"]})
    gamma = usage(organization, 3, metadata={"prepaid:tags": ["gamma"]})
    assert await statuses(pool, both, alpha, gamma) == ["posted", "budget_exceeded", "posted"]
    assert await numbers(pool, made) == {"alpha": (3, 0), "beta": (3, 0), "gamma": (3, 0)}


async def test_a_budget_by_name_replaces_that_of_each_subject_with_the_same_window(
    pool: Pool, organization: Organization
) -> None:
    each = await create_budget(pool, organization, 5, subject="*")
    await create_budget(pool, organization, 50, subject="jo")
    await create_budget(pool, organization, 8, subject="mia", window="day")
    await post(pool, grant(organization, 100))
    asked = [usage(organization, 20, user_id="jo"), usage(organization, 6, user_id="mia")]
    assert await statuses(pool, *asked) == ["posted", "budget_exceeded"]
    # It counts on, so that its numbers are right once the other one is removed.
    assert await numbers(pool, each) == {"jo": (20, 0)}


async def test_what_tells_never_refuses(pool: Pool, organization: Organization) -> None:
    made = await create_budget(pool, organization, 5, action="tell")
    await post(pool, grant(organization, 100))
    for _ in range(2):
        assert await statuses(pool, usage(organization, 4, user_id="jo")) == ["posted"]
    assert await numbers(pool, made) == {"jo": (8, 0)}


async def test_usage_that_has_happened_is_counted_and_never_refused(
    pool: Pool, organization: Organization
) -> None:
    made = await create_budget(pool, organization, 5)
    await post(pool, grant(organization, 100))
    asked = usage(organization, 9, user_id="jo", may_overdraw=True)
    assert await statuses(pool, asked) == ["posted"]
    assert await numbers(pool, made) == {"jo": (9, 0)}


async def test_a_refusal_by_a_budget_comes_before_one_by_the_balance(
    pool: Pool, organization: Organization
) -> None:
    await create_budget(pool, organization, 5)
    await post(pool, grant(organization, 1))
    asked = [usage(organization, 6, user_id="jo"), usage(organization, 4, user_id="jo")]
    assert await statuses(pool, *asked) == ["budget_exceeded", "insufficient"]


async def test_a_replay_counts_once_also_where_the_budget_is_spent(
    pool: Pool, organization: Organization
) -> None:
    made = await create_budget(pool, organization, 5)
    await post(pool, grant(organization, 100))
    asked = usage(organization, 5, user_id="jo")
    assert await statuses(pool, asked, asked) == ["posted", "replayed"]
    assert await statuses(pool, asked) == ["replayed"]
    assert await numbers(pool, made) == {"jo": (5, 0)}


async def test_a_budget_counts_what_was_used_before_it_and_may_be_below_it(
    pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 100), usage(organization, 8, user_id="jo"))
    for window in ("hour", "day", "month", "total"):
        made = await create_budget(pool, organization, 5, window=window)
        assert made.is_spent
        assert await numbers(pool, made) == {"jo": (8, 0)}
    assert await statuses(pool, usage(organization, 1, user_id="jo")) == ["budget_exceeded"]


async def test_only_usage_counts(pool: Pool, organization: Organization) -> None:
    made = await create_budget(pool, organization, 5)
    await post(pool, grant(organization, 100), usage(organization, 2, user_id="jo"))
    correction = posting(organization, TransactionType.ADJUSTMENT, -4, user_id="jo")
    back = posting(organization, TransactionType.ADJUSTMENT, 2, user_id="jo")
    assert await statuses(pool, correction, back) == ["posted", "posted"]
    later = await create_budget(pool, organization, 5, window="day")
    for state in (made, later):
        assert await numbers(pool, state) == {"jo": (2, 0)}


@pytest.mark.parametrize(
    ("window", "last", "next_one"),
    [
        ("hour", "2031-01-31T09:59:59.999999Z", "2031-01-31T10:00:00Z"),
        ("day", "2031-01-31T23:59:59.999999Z", "2031-02-01T00:00:00Z"),
        ("month", "2032-02-29T23:59:59.999999Z", "2032-03-01T00:00:00Z"),
        # A leap second at the end of a day would belong to that day; PostgreSQL's clock has none.
        ("day", "2036-12-31T23:59:59.999999Z", "2037-01-01T00:00:00Z"),
    ],
)
async def test_a_window_turns_at_its_exact_moment_in_utc(
    pool: Pool, organization: Organization, window: str, last: str, next_one: str
) -> None:
    made = await create_budget(pool, organization, 5, window=window)
    await post(pool, grant(organization, 100))
    async with pool.acquire() as connection:
        await connection.execute("SET TimeZone = 'Pacific/Auckland'")
    await set_clock(pool, organization, datetime.fromisoformat(last))
    (posted,) = await post(pool, usage(organization, 5, user_id="jo"))
    assert isinstance(posted, PostedTransaction)
    assert posted.created_at == datetime.fromisoformat(last)
    (refused,) = await post(pool, usage(organization, 5, user_id="jo"))
    assert isinstance(refused, BudgetExceeded)
    assert refused.shortfall.resets_at == datetime.fromisoformat(next_one)
    await set_clock(pool, organization, datetime.fromisoformat(next_one))
    assert await statuses(pool, usage(organization, 5, user_id="jo")) == ["posted"]
    assert await numbers(pool, made) == {"jo": (5, 0)}


async def test_a_total_never_counts_anew(pool: Pool, organization: Organization) -> None:
    made = await create_budget(pool, organization, 5, window="total")
    await post(pool, grant(organization, 100), usage(organization, 5, user_id="jo"))
    await set_clock(pool, organization, datetime.now(UTC) + timedelta(days=4000))
    assert await statuses(pool, usage(organization, 1, user_id="jo")) == ["budget_exceeded"]
    assert (await budget_of(pool, made)).resets_at is None


async def test_a_subject_has_one_budget_with_a_window(
    pool: Pool, organization: Organization
) -> None:
    await create_budget(pool, organization, 5)
    with pytest.raises(AlreadyExistsError):
        await create_budget(pool, organization, 6)
    await create_budget(pool, organization, 6, window="day")


async def test_a_closed_organization_gets_no_budget(pool: Pool, organization: Organization) -> None:
    await pool.execute("UPDATE accounts SET closed_at = now()")
    with pytest.raises(OrganizationClosedError):
        await create_budget(pool, organization, 5)
    assert await pool.fetchval("SELECT count(*) FROM budgets") == 0


async def test_an_organization_has_a_limited_number_of_budgets(
    pool: Pool, organization: Organization
) -> None:
    await pool.execute("UPDATE accounts SET budgets = $1", rules.BUDGETS_MAX)
    with pytest.raises(ConflictError, match="at most 10000 budgets"):
        await create_budget(pool, organization, 5)
    assert await pool.fetchval("SELECT budgets FROM accounts") == rules.BUDGETS_MAX


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"limit": "-1"}, "limit"),
        ({"limit": "NaN"}, "limit"),
        ({"limit": "1e-10"}, "limit"),
        ({"limit": "1e400"}, "limit"),
        ({"limit": 1, "subject": ""}, "subject"),
        ({"limit": 1, "subject": "a\0b"}, "subject"),
        ({"limit": 1, "kind": "key", "subject": "no-id"}, "subject"),
        ({"limit": 1, "kind": "tag", "subject": "a b"}, "subject"),
        ({"limit": 1, "kind": "category", "subject": "x" * 101}, "subject"),
        ({"limit": 1, "thresholds": (0,)}, "thresholds"),
        ({"limit": 1, "thresholds": (101,)}, "thresholds"),
        ({"limit": 1, "thresholds": tuple(range(1, 12))}, "thresholds"),
    ],
)
async def test_a_budget_that_makes_no_sense_is_refused_with_its_field(
    pool: Pool, organization: Organization, fields: Any, field: str
) -> None:
    with pytest.raises(ValidationError, match=f"^{field}: "):
        await create_budget(pool, organization, **fields)
