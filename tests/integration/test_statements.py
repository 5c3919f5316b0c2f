"""The statement of a month: its sums tie, and an ended month never changes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings

from shared.ledger.model import TransactionType
from shared.months import Month
from shared.statements import rules, service
from shared.statements.model import Line, Statement
from tests.fixtures.product import sessions_wait
from tests.fixtures.profile import cases
from tests.fixtures.timeline import START, STEPS, Step, Timeline, a_new_line, play, timeline

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

NEVER = datetime(2100, 1, 1, tzinfo=UTC)
JANUARY, FEBRUARY, MARCH = Month(2026, 1), Month(2026, 2), Month(2026, 3)


async def statement(line: Timeline, month: Month, *, now: datetime = NEVER) -> Statement:
    return await service.statement(line.connection, line.owner.id, month, now=now)


async def test_a_statement_has_a_line_for_each_reason_and_usage_by_category(
    pool: Pool, organization: Organization
) -> None:
    async with timeline(pool, organization) as line:
        await line.buy(100, 10_000)
        await line.advance(days=5)
        payment = await line.buy(50, 5_000)
        await line.post(TransactionType.RECHARGE, 20)
        await line.post(TransactionType.GRANT, 5, expires_at=datetime(2026, 2, 10, tzinfo=UTC))
        await line.post(TransactionType.BONUS, 1)
        await line.use("3.000000001", "chat")
        await line.use(2)
        await line.use(1, "images")
        await line.advance(days=8)
        await line.expire()
        await line.reverse(payment, refunded=10)
        await line.reverse(payment, refunded=10, withdrawn=40, disputed=True)
        await line.reverse(payment, refunded=10)
        await line.post(TransactionType.ADJUSTMENT, "-0.5")
        await line.post(TransactionType.VOID, None, grant_id=line.grants[0])
        found = await statement(line, FEBRUARY)
    assert {line: total.amount for line, total in found.lines.items() if total.amount} == {
        Line.PURCHASED: 50,
        Line.RECHARGED: 20,
        Line.GRANTED: 6,
        Line.USED: Decimal("-6.000000001"),
        Line.REFUNDED: -10,
        Line.ADJUSTED: Decimal("-0.5"),
        Line.VOIDED: found.lines[Line.VOIDED].amount,
    }
    assert found.lines[Line.VOIDED].amount < 0
    assert found.lines[Line.DISPUTED].transactions == 2
    assert [(part.category, part.total.amount) for part in found.used] == [
        ("chat", Decimal("-3.000000001")),
        (None, -2),
        ("images", -1),
    ]
    assert (found.opening.balance, found.opening.seq) == (Decimal(100), 1)


async def test_a_row_belongs_to_the_month_in_which_it_was_created_in_utc(
    pool: Pool, organization: Organization
) -> None:
    async with timeline(pool, organization) as line:
        await line.set(datetime(2026, 1, 31, 23, 59, 59, 999_999, tzinfo=UTC))
        await line.post(TransactionType.GRANT, 1)
        await line.set(FEBRUARY.start)
        await line.post(TransactionType.GRANT, 2, effective_at=START)
        await line.set(datetime(2026, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC))
        await line.post(TransactionType.GRANT, 4)
        await line.set(MARCH.start)
        await line.post(TransactionType.GRANT, 8)
        found = [await statement(line, month) for month in (JANUARY, FEBRUARY, MARCH)]
    assert [part.lines[Line.GRANTED].amount for part in found] == [1, 6, 8]
    assert [(part.opening.seq, part.closing.seq) for part in found] == [(0, 1), (1, 3), (3, 4)]
    assert found[0].opening.hash is None
    assert found[0].closing.hash == found[1].opening.hash


async def test_a_month_without_rows_has_the_balance_before_it(
    pool: Pool, organization: Organization
) -> None:
    async with timeline(pool, organization) as line:
        before = await statement(line, JANUARY)
        await line.post(TransactionType.GRANT, 3)
        after = await statement(line, MARCH)
    assert (before.opening, before.closing.balance) == (before.closing, Decimal(0))
    assert (after.opening, after.closing.balance) == (after.closing, Decimal(3))
    assert after.transactions == 0


async def test_an_ended_month_prints_the_same_after_more_rows(
    pool: Pool, organization: Organization
) -> None:
    async with timeline(pool, organization) as line:
        payment = await line.buy(10, 1_000)
        await line.use(4, "chat")
        first = await statement(line, JANUARY)
        await line.set(MARCH.start)
        await line.reverse(payment, refunded=10)
        await line.use(1, "chat", effective_at=START)
        assert await statement(line, JANUARY) == first


async def test_a_month_that_ends_now_is_not_complete(
    pool: Pool, organization: Organization
) -> None:
    async with timeline(pool, organization) as line:
        assert not (await statement(line, JANUARY, now=JANUARY.end)).complete
        assert (await statement(line, JANUARY, now=FEBRUARY.end)).complete


async def test_a_statement_of_an_ended_month_waits_for_a_posting_in_progress(
    pool: Pool, organization: Organization
) -> None:
    async with timeline(pool, organization) as line, pool.acquire() as reader:
        transaction = line.connection.transaction()
        await transaction.start()
        await line.post(TransactionType.GRANT, 3)
        reading = asyncio.create_task(
            service.statement(reader, organization.id, JANUARY, now=NEVER)
        )
        await sessions_wait(pool)
        await transaction.commit()
        assert (await reading).closing.balance == 3


async def test_categories_beyond_the_limit_are_one_sum(
    pool: Pool, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "CATEGORIES_MAX", 2)
    async with timeline(pool, organization) as line:
        await line.post(TransactionType.GRANT, 100)
        for number in range(1, 6):
            await line.use(number, f"c{number}")
        found = await statement(line, JANUARY)
    assert [(part.category, part.total.amount, part.is_rest) for part in found.used] == [
        ("c5", Decimal(-5), False),
        ("c4", Decimal(-4), False),
        (None, Decimal(-6), True),
    ]
    assert found.lines[Line.USED].transactions == 5


@settings(
    max_examples=cases(quick=15, thorough=50),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=STEPS)
def test_the_sums_of_random_ledgers_tie_month_after_month(
    steps: Sequence[Step], database_url: str, runner: asyncio.Runner
) -> None:
    async def work() -> None:
        async with a_new_line(database_url) as line:
            await play(line, steps)
            rows = await line.rows()
            month, before = JANUARY, None
            while month.start <= line.now:
                found = await statement(line, month)
                assert before in (None, found.opening)
                before, month = found.closing, month.next
                mine = [row for row in rows if found.month.start <= row["created_at"] < month.start]
                assert found.transactions == len(mine)
                assert sum(total.amount for total in found.lines.values()) == sum(
                    row["amount"] for row in mine
                )
            assert before is not None
            assert before.balance == (rows[-1]["balance_after"] if rows else 0)

    runner.run(work())
