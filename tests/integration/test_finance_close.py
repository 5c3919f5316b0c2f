"""The finance close of a month: money by currency, tied to the trial balance, the same for ever."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import asyncpg
import pytest

from shared.errors import ConflictError
from shared.finance import rules, service
from shared.finance.model import (
    Credits,
    CurrencyClose,
    DeferredRevenue,
    StoredClose,
    encode,
)
from shared.ledger.model import TransactionType
from shared.months import Month
from shared.spreadsheets import csv_text
from tests.fixtures.product import create_organization
from tests.fixtures.timeline import Timeline, timeline

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

LATER = datetime(2026, 12, 1, tzinfo=UTC)
JANUARY, FEBRUARY, MARCH = Month(2026, 1), Month(2026, 2), Month(2026, 3)


async def close(line: Timeline, month: Month, *, now: datetime = LATER) -> StoredClose:
    return await service.close(line.connection, month, now=now, actor="tests")


async def currency(line: Timeline, month: Month, name: str = "usd") -> CurrencyClose:
    found = (await close(line, month)).close
    return next(part for part in found.currencies if part.currency == name)


async def money(line: Timeline, month: Month, name: str = "usd") -> dict[str, str]:
    """Return the lines of deferred revenue that are not zero."""
    part = (await currency(line, month, name)).deferred_revenue
    lines = {field: getattr(part, field) for field in part.__struct_fields__}
    return {field: f"{amount:f}" for field, amount in lines.items() if amount}


async def test_a_grant_that_is_burned_recognises_exactly_what_was_paid(
    pool: Pool, organization: Organization
) -> None:
    async with timeline(pool, organization) as line:
        await line.buy(3, 1000)
        await line.use(1)
        await line.set(FEBRUARY.start)
        await line.use(1)
        await line.set(MARCH.start)
        await line.use(1)
        january, february, march = [
            await money(line, month) for month in (JANUARY, FEBRUARY, MARCH)
        ]
    assert january == {"added": "10.00", "recognised": "3.33", "closing": "6.67"}
    assert february == {"opening": "6.67", "recognised": "3.34", "closing": "3.33"}
    assert march == {"opening": "3.33", "recognised": "3.33"}


@pytest.mark.parametrize(
    ("name", "minor", "recognised"), [("jpy", 1000, "333"), ("kwd", 1000, "0.333")]
)
async def test_money_is_in_the_units_of_its_currency(
    pool: Pool, organization: Organization, name: str, minor: int, recognised: str
) -> None:
    async with timeline(pool, organization) as line:
        await line.buy(3, minor, name)
        await line.use(1)
        assert (await money(line, JANUARY, name))["recognised"] == recognised


async def test_tax_is_no_revenue(pool: Pool, organization: Organization) -> None:
    async with timeline(pool, organization) as line:
        await line.buy(10, 1000, tax=190)
        await line.use(10)
        assert await money(line, JANUARY) == {"added": "10.00", "recognised": "10.00"}


async def test_usage_on_debt_is_recognised_in_the_month_of_the_credit_that_covers_it(
    pool: Pool, organization: Organization
) -> None:
    async with timeline(pool, organization) as line:
        await line.use(4)
        await line.set(FEBRUARY.start)
        await line.buy(10, 1000)
        january = await currency(line, JANUARY)
        february = await currency(line, FEBRUARY)
    assert (january.deferred_revenue, january.debt_closing) == (DeferredRevenue(), Decimal(4))
    assert (february.debt_opening, february.debt_closing) == (Decimal(4), Decimal(0))
    assert february.deferred_revenue.recognised == Decimal("4.00")
    assert february.paid.used == Decimal(4)


async def test_a_later_refund_is_of_the_month_in_which_it_is_posted(
    pool: Pool, organization: Organization
) -> None:
    async with timeline(pool, organization) as line:
        payment = await line.buy(10, 1000)
        await line.use(4)
        before = await close(line, JANUARY)
        await line.set(FEBRUARY.start)
        await line.reverse(payment, refunded=5)
        assert await close(line, JANUARY) == before
        february = await money(line, FEBRUARY)
    assert february == {"opening": "6.00", "refunded": "5.00", "closing": "1.00"}


async def test_a_refund_of_used_credits_takes_from_other_grants_at_their_cost(
    pool: Pool, organization: Organization
) -> None:
    async with timeline(pool, organization) as line:
        first = await line.buy(10, 1000)
        await line.use(10)
        await line.buy(10, 2000)
        await line.reverse(first, refunded=5)
        found = await money(line, JANUARY)
    assert found == {
        "added": "30.00",
        "recognised": "10.00",
        "refunded": "10.00",
        "closing": "10.00",
    }


async def test_a_refund_on_debt_takes_nothing_until_a_credit_covers_it(
    pool: Pool, organization: Organization
) -> None:
    async with timeline(pool, organization) as line:
        payment = await line.buy(10, 1000)
        await line.use(14)
        await line.reverse(payment, refunded=5)
        await line.set(FEBRUARY.start)
        await line.buy(20, 4000)
        january = await currency(line, JANUARY)
        february = await currency(line, FEBRUARY)
    assert [january.paid.used, january.paid.refunded, january.debt_closing] == [10, 0, 9]
    assert (january.promotional, february.promotional) == (Credits(), Credits())
    assert [february.paid.used, february.paid.refunded, february.debt_closing] == [4, 5, 0]
    assert february.deferred_revenue.refunded == Decimal("10.00")


async def test_a_dispute_that_is_won_leaves_no_trace_in_the_money(
    pool: Pool, organization: Organization
) -> None:
    async with timeline(pool, organization) as line:
        payment = await line.buy(9, 1000)
        await line.use(2)
        await line.reverse(payment, withdrawn=9, disputed=True)
        lost = await currency(line, JANUARY)
        await line.set(FEBRUARY.start)
        await line.reverse(payment)
        won = await currency(line, FEBRUARY)
    assert lost.deferred_revenue.refunded == Decimal("7.78")
    assert lost.debt_closing == Decimal(2)
    assert won.deferred_revenue.refunded == Decimal("-7.78")
    assert won.deferred_revenue.closing == Decimal("7.78")


async def test_expired_credits_are_breakage_and_voided_ones_an_adjustment(
    pool: Pool, organization: Organization
) -> None:
    async with timeline(pool, organization) as line:
        await line.buy(10, 1000, expires_at=FEBRUARY.start)
        await line.buy(10, 3000)
        await line.post(TransactionType.GRANT, 7, promotional=True, expires_at=FEBRUARY.start)
        await line.set(FEBRUARY.start)
        await line.expire()
        await line.post(TransactionType.VOID, None, grant_id=line.grants[1])
        found = await currency(line, FEBRUARY)
    assert found.deferred_revenue.breakage == Decimal("10.00")
    assert found.deferred_revenue.adjusted == Decimal("30.00")
    assert (found.paid.expired, found.paid.voided) == (Decimal(10), Decimal(10))
    assert found.promotional.expired == Decimal(7)


async def test_promotional_credits_have_no_money(pool: Pool, organization: Organization) -> None:
    async with timeline(pool, organization) as line:
        await line.post(TransactionType.GRANT, 5, promotional=True)
        await line.use(2)
        found = await currency(line, JANUARY)
    assert found.deferred_revenue == DeferredRevenue()
    assert (found.promotional.added, found.promotional.used) == (Decimal(5), Decimal(2))


async def test_a_closed_month_is_stored_and_cannot_change(
    pool: Pool, organization: Organization
) -> None:
    async with timeline(pool, organization) as line:
        await line.buy(10, 1000)
        first = await close(line, JANUARY)
        second = await close(line, FEBRUARY)
        again = await close(line, JANUARY, now=datetime(2027, 1, 1, tzinfo=UTC))
    assert again == first
    assert csv_text(rules.csv_rows(again.close, again.sha256)) == csv_text(
        rules.csv_rows(first.close, first.sha256)
    )
    assert (second.close.previous_month, second.close.previous_hash) == (
        "2026-01",
        first.sha256.hex(),
    )
    for change in ("UPDATE finance_closes SET closed_at = now()", "DELETE FROM finance_closes"):
        with pytest.raises(asyncpg.RestrictViolationError):
            await pool.execute(change)
    stored = await pool.fetchval("SELECT document FROM finance_closes ORDER BY month LIMIT 1")
    assert stored == encode(first.close)


async def test_a_month_is_closed_an_hour_after_its_end(
    pool: Pool, organization: Organization
) -> None:
    async with timeline(pool, organization) as line:
        with pytest.raises(ConflictError, match="before 2026-02-01 01:00 UTC"):
            await close(line, JANUARY, now=datetime(2026, 2, 1, 0, 59, tzinfo=UTC))
        await close(line, JANUARY, now=datetime(2026, 2, 1, 1, tzinfo=UTC))


async def test_a_close_waits_for_a_posting_in_progress(
    pool: Pool, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        looked.set()
        await real(0)

    real = asyncio.sleep
    async with timeline(pool, organization) as line, pool.acquire() as other:
        transaction = line.connection.transaction()
        await transaction.start()
        await line.buy(10, 1000)
        monkeypatch.setattr("shared.finance.service.asyncio.sleep", sleep)
        closing = asyncio.create_task(service.close(other, JANUARY, now=LATER, actor="tests"))
        await looked.wait()
        await transaction.commit()
        found = (await closing).close
    assert found.currencies[0].deferred_revenue.added == Decimal("10.00")


async def test_closes_of_a_month_at_once_are_one(pool: Pool, organization: Organization) -> None:
    async with timeline(pool, organization) as line:
        await line.buy(10, 1000)

    async def closed(number: int) -> StoredClose:
        now = LATER.replace(minute=number)
        async with pool.acquire() as connection:
            return await service.close(connection, JANUARY, now=now, actor="tests")

    first, *others = await asyncio.gather(*map(closed, range(3)))
    assert others == [first, first]
    assert await pool.fetchval("SELECT count(*) FROM audit_log") == 1


async def test_a_close_covers_all_organizations_in_several_pages(
    pool: Pool, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LEDGERS_AT_ONCE", 2)
    others = [await create_organization(pool, f"o{n}", currency="eur") for n in range(4)]
    for owner in (organization, *others):
        async with timeline(pool, owner) as line:
            await line.buy(5, 500, owner.currency)
            await line.post(TransactionType.GRANT, 1)
    async with timeline(pool, await create_organization(pool, "empty")) as line:
        found = (await close(line, JANUARY)).close
    assert (found.organizations, found.transactions) == (5, 10)
    assert found.organizations_closing == Decimal(30)
    assert [(part.currency, part.deferred_revenue.added) for part in found.currencies] == [
        ("eur", Decimal("20.00")),
        ("usd", Decimal("5.00")),
    ]
    assert found.accounts == {
        "organizations": Decimal(30),
        "promotions": Decimal(-5),
        "stripe": Decimal(-25),
    }
