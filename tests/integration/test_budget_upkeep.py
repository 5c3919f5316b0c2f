"""Budgets over time: old counters are deleted, users are erased, and the audit log has changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from shared.budgets import service
from shared.budgets.model import BudgetAction, BudgetChange
from shared.organizations.model import Organization
from tests.fixtures.budgets import budget_of, create_budget, numbers, set_clock
from tests.fixtures.commands import Command, assert_refused
from tests.fixtures.ledger import grant, hold, post, statuses, usage
from worker.cleaners import BudgetCleaner

if TYPE_CHECKING:
    from shared.db.pool import Pool

REASON = ("--reason", "a pilot")
JSON = "--json"
NOW = datetime.now(UTC)


async def counters(pool: Pool) -> int:
    count: int = await pool.fetchval("SELECT count(*) FROM budget_counters")
    return count


async def test_counters_of_ended_windows_are_deleted_and_count_anew(
    pool: Pool, organization: Organization
) -> None:
    await set_clock(pool, organization, NOW - timedelta(days=2))
    hourly = await create_budget(pool, organization, 5, subject="*", window="hour")
    total = await create_budget(pool, organization, 50, subject="*", window="total")
    await post(pool, grant(organization, 100))
    await pool.execute(
        "INSERT INTO budget_counters SELECT $1, $2, 'user-' || n, now() - interval '1 hour', 5, 0"
        " FROM generate_series(1, 5) AS n",
        organization.id, hourly.budget.id,
    )  # fmt: skip
    await post(pool, usage(organization, 1, user_id="jo"))
    assert await BudgetCleaner(pool, rows_max=2).clean() == 5
    assert await numbers(pool, hourly) == {"jo": (1, 0)}
    assert await statuses(pool, usage(organization, 5, user_id="user-1")) == ["posted"]
    assert await numbers(pool, total) == {"jo": (1, 0), "user-1": (5, 0)}


async def test_a_counter_stays_for_an_hour_after_its_window_for_postings_that_began_in_it(
    pool: Pool, organization: Organization
) -> None:
    await create_budget(pool, organization, 5, window="hour")
    await post(pool, grant(organization, 100), usage(organization, 5, user_id="jo"))
    for age, left in (("59 minutes", 1), ("61 minutes", 0)):
        await pool.execute(
            "UPDATE budget_counters SET window_end = now() - $1::text::interval", age
        )
        assert await BudgetCleaner(pool).clean() == 1 - left
        assert await counters(pool) == left


async def test_a_counter_with_an_active_hold_stays_however_long_ago_its_window_ended(
    pool: Pool, organization: Organization
) -> None:
    made = await create_budget(pool, organization, 5, window="hour")
    await post(pool, grant(organization, 100))
    await hold(pool, organization, 3, user_id="jo")
    await pool.execute("UPDATE budget_counters SET window_end = now() - interval '2 days'")
    assert await BudgetCleaner(pool).clean() == 0
    assert await numbers(pool, made) == {"jo": (0, 3)}


async def test_a_removed_budget_limits_nothing_and_is_deleted_after_its_counters(
    pool: Pool, organization: Organization
) -> None:
    made = await create_budget(pool, organization, 1)
    await post(pool, grant(organization, 100), usage(organization, 1, user_id="jo"))
    async with pool.acquire() as connection, connection.transaction():
        await service.remove(connection, organization.id, made.budget.id, actor="x", now=NOW)
    assert await statuses(pool, usage(organization, 5, user_id="jo")) == ["posted"]
    assert await pool.fetchval("SELECT budgets FROM accounts") == 0
    again = await create_budget(pool, organization, 50)
    assert await numbers(pool, again) == {"jo": (6, 0)}
    # The row stays for an hour: a posting that began before the removal may still count in it.
    for age, left in (("0 minutes", 2), ("61 minutes", 1)):
        await pool.execute("UPDATE budgets SET removed_at = removed_at - $1::text::interval", age)
        assert await BudgetCleaner(pool).clean() == 1
        assert await pool.fetchval("SELECT count(*) FROM budgets") == left
    assert await counters(pool) == await pool.fetchval("SELECT count(*) FROM budgets") == 1


async def test_the_budget_of_each_subject_limits_one_whose_own_budget_was_removed(
    pool: Pool, organization: Organization
) -> None:
    await create_budget(pool, organization, 5, subject="*")
    named = await create_budget(pool, organization, 50)
    await post(pool, grant(organization, 100))
    assert await statuses(pool, usage(organization, 6, user_id="jo")) == ["posted"]
    async with pool.acquire() as connection, connection.transaction():
        await service.remove(connection, organization.id, named.budget.id, actor="x", now=NOW)
    assert await statuses(pool, usage(organization, 1, user_id="jo")) == ["budget_exceeded"]


async def test_a_change_applies_at_once_and_is_in_the_audit_log(
    pool: Pool, organization: Organization
) -> None:
    made = await create_budget(pool, organization, 10)
    await post(pool, grant(organization, 100), usage(organization, 6, user_id="jo"))
    changes = BudgetChange(limit=Decimal(5), action=BudgetAction.TELL)
    async with pool.acquire() as connection, connection.transaction():
        state = await service.change(
            connection, organization.id, made.budget.id, changes, actor="jo", now=NOW, reason="less"
        )
    assert state.is_spent
    assert await statuses(pool, usage(organization, 1, user_id="jo")) == ["posted"]
    rows = await pool.fetch("SELECT action, reason, details FROM audit_log ORDER BY at")
    assert [(row["action"], row["reason"]) for row in rows] == [
        ("budgets.create", None),
        ("budgets.change", "less"),
    ]
    assert rows[1]["details"] == {"limit": "5", "action": "tell"}


async def test_the_command_line_sets_lists_shows_and_removes_budgets(
    pool: Pool, organization: Organization, prepaid: Command
) -> None:
    await post(pool, grant(organization, 100), usage(organization, 3, user_id="jo"))
    window = ("--window", "month")
    made = (await prepaid("budgets", "set", "acme", "user:jo", "5", *window, *REASON, JSON)).json
    assert (made["limit"], made["used"], made["left"], made["spent"]) == (5, 3, 2, False)
    less = ("--action", "tell", "--threshold", "50", "--threshold", "90")
    changed = await prepaid("budgets", "set", "acme", "user:jo", "3", *window, *less, *REASON, JSON)
    assert changed.json["id"] == made["id"]
    assert (changed.json["thresholds"], changed.json["spent"]) == ([50, 90], True)
    human = await prepaid("budgets", "set", "acme", "user:jo", "1", *window, *REASON)
    assert "user jo, 1 credit, month, used 3, held 0, left 0; the limit is reached" in human.stdout
    each = (await prepaid("budgets", "set", "acme", "tag:*", "9", *window, *REASON, JSON)).json
    listed = (await prepaid("budgets", "list", "acme", JSON)).json["budgets"]
    assert [row["id"] for row in listed] == [each["id"], made["id"]]
    shown = (await prepaid("budgets", "show", "acme", made["id"], JSON)).json
    assert shown["subjects"] == [{"subject": "jo", "used": 3, "held": 0, "left": 0}]
    removed = (await prepaid("budgets", "remove", "acme", each["id"], *REASON, JSON)).json
    assert removed == {"id": each["id"], "removed": True}
    assert_refused(await prepaid("budgets", "show", "acme", each["id"], JSON), "There is no budget")


async def test_the_command_line_sets_and_shows_alerts(
    pool: Pool, organization: Organization, prepaid: Command
) -> None:
    made = await prepaid("alerts", "set", "acme", "50", "2.5", *REASON, JSON)
    assert made.json == {"thresholds": [2.5, 50], "lowBalanceThreshold": None}
    assert (await prepaid("alerts", "show", "acme")).stdout == "alerts below: 2.5, 50\n"
    assert_refused(await prepaid("alerts", "set", "acme", "much", *REASON), "THRESHOLDS")
    await pool.execute("UPDATE accounts SET low_below = 7")
    ended = await prepaid("alerts", "set", "acme", *REASON)
    assert ended.stdout == "alerts below: none; and 7, of the billing settings or auto-recharge\n"
    audited = await pool.fetch("SELECT reason, details FROM audit_log ORDER BY at")
    assert [row["details"] for row in audited] == [
        {"thresholds": ["2.5", "50"]}, {"thresholds": []},
    ]  # fmt: skip
    assert {row["reason"] for row in audited} == {REASON[1]}


async def test_an_erasure_deletes_the_users_of_budgets(
    pool: Pool, organization: Organization, prepaid: Command
) -> None:
    await create_budget(pool, organization, 5, subject="Jo Doe")
    each = await create_budget(pool, organization, 50, subject="*", window="total")
    category = await create_budget(pool, organization, 70, kind="category", subject="tokens")
    fields: Any = {"user_id": "Jo Doe", "category": "tokens"}
    await post(pool, grant(organization, 100), usage(organization, 3, **fields))
    async with pool.acquire() as connection, connection.transaction():
        await service.remove(connection, organization.id, each.budget.id, actor="x", now=NOW)
    assert (await prepaid("orgs", "close", "acme", *REASON)).code == 0
    assert (await prepaid("privacy", "erase", "acme", *REASON)).code == 0
    for table in ("budgets", "budget_counters"):
        rows = await pool.fetch(f"SELECT t::text FROM {table} AS t")  # noqa: S608 - a constant
        assert not any("Jo Doe" in row[0] for row in rows), table
    assert (await budget_of(pool, category)).own is not None
    assert await pool.fetchval("SELECT budgets FROM accounts") == 1
