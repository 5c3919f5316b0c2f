"""Prices in the database: books, their activation, and what an organization gets of them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import asyncpg
import pytest

from shared.errors import AlreadyExistsError, NotFoundError, ValidationError
from shared.pricing import books
from shared.pricing.model import PricedUsage, PricingRefusal, UsageItem
from shared.pricing.rules import NOTICE_SECONDS
from shared.pricing.service import REMEMBERED_SECONDS, Pricer
from tests.fixtures.pricing import BOOK, ITEM, activate_book, add_book

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool
    from shared.organizations.model import Organization

DEARER = BOOK.replace('"2.50 / 1M"', '"5 / 1M"')


async def total_at(
    pricer: Pricer, connection: Connection, organization: Organization, at: datetime
) -> Decimal:
    (result,) = await pricer.price(connection, organization.id, [ITEM], at)
    assert isinstance(result, PricedUsage), result
    return result.total


async def test_the_first_version_of_a_book_is_valid_at_once(
    pool: Pool, connection: Connection, organization: Organization
) -> None:
    pricer = Pricer()
    (before,) = await pricer.price(connection, organization.id, [ITEM], datetime.now(UTC))
    assert isinstance(before, PricingRefusal)
    assert before.type == "no_price_book"
    await activate_book(pool)
    assert await total_at(pricer, connection, organization, datetime.now(UTC)) == Decimal("2.5")


async def test_a_later_version_is_valid_from_its_exact_moment(
    pool: Pool, connection: Connection, organization: Organization
) -> None:
    await activate_book(pool)
    moment = await activate_book(pool, DEARER)
    pricer = Pricer()
    just_before = moment - timedelta(microseconds=1)
    assert await total_at(pricer, connection, organization, just_before) == Decimal("2.5")
    assert await total_at(pricer, connection, organization, moment) == Decimal(5)
    assert await total_at(pricer, connection, organization, just_before) == Decimal("2.5")


async def test_a_process_knows_of_a_version_before_it_is_valid(
    pool: Pool, connection: Connection, organization: Organization
) -> None:
    await activate_book(pool)
    clock = 0.0
    pricer = Pricer(clock=lambda: clock)
    await total_at(pricer, connection, organization, datetime.now(UTC))
    before = datetime.now(UTC)
    moment = await activate_book(pool, DEARER)  # by another process
    assert moment > before + timedelta(seconds=NOTICE_SECONDS - 1)
    assert await total_at(pricer, connection, organization, moment) == Decimal("2.5")
    clock = REMEMBERED_SECONDS
    assert REMEMBERED_SECONDS < NOTICE_SECONDS
    assert await total_at(pricer, connection, organization, moment) == Decimal(5)


async def test_books_that_are_added_at_once_are_numbered_without_a_gap(pool: Pool) -> None:
    async def add(price: int) -> int:
        async with pool.acquire() as own, own.transaction():
            return await add_book(own, BOOK.replace("0.04", f"0.{price % 4 + 1}"))

    versions = await asyncio.gather(*map(add, range(8)))
    assert sorted(versions) == [1, 1, 2, 2, 3, 3, 4, 4]


async def test_of_two_activations_at_once_for_one_moment_one_is_refused(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await add_book(connection)
        await add_book(connection, DEARER)
    tomorrow = datetime.now(UTC) + timedelta(days=1)

    async def activate(version: int) -> bool:
        async with pool.acquire() as own, own.transaction():
            try:
                await books.activate(own, "default", version, actor="tests", active_from=tomorrow)
            except AlreadyExistsError:
                return False
        return True

    assert sorted(await asyncio.gather(activate(1), activate(2))) == [False, True]


async def test_a_version_is_never_valid_in_the_past(pool: Pool, connection: Connection) -> None:
    await activate_book(pool)
    yesterday = datetime.now(UTC) - timedelta(days=1)
    with pytest.raises(ValidationError) as refusal:
        await activate_book(pool, DEARER, active_from=yesterday)
    assert refusal.value.errors is not None
    assert "keeps its price" in refusal.value.errors[0]["msg"]
    with pytest.raises(asyncpg.CheckViolationError):
        await connection.execute(
            "INSERT INTO price_book_activations VALUES ('default', $1, 1, now(), 'tests')",
            yesterday,
        )


async def test_two_versions_are_never_valid_at_one_moment(
    pool: Pool, connection: Connection
) -> None:
    await activate_book(pool)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    await activate_book(pool, DEARER, active_from=tomorrow)
    await activate_book(pool, DEARER, active_from=tomorrow)  # the same again
    with pytest.raises(AlreadyExistsError, match="Version 2"):
        await activate_book(pool, active_from=tomorrow)


async def test_the_same_content_is_the_same_version(connection: Connection) -> None:
    assert await add_book(connection) == 1
    assert await add_book(connection, DEARER) == 2
    assert await add_book(connection) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE price_book_versions SET content = '{}'",
        "DELETE FROM price_book_activations",
        "UPDATE price_discounts SET percent = 100",
        "DELETE FROM price_assignments",
    ],
)
async def test_no_role_can_change_prices(pool: Pool, statement: str) -> None:
    await activate_book(pool)
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await pool.execute(statement)


async def test_an_organization_has_a_book_of_its_own_from_a_moment_on(
    pool: Pool, connection: Connection, organization: Organization
) -> None:
    await activate_book(pool)
    await activate_book(pool, DEARER.replace('"default"', '"special"'))
    moment = await books.assign(connection, organization.id, "special", actor="tests")
    pricer = Pricer()
    assert await total_at(pricer, connection, organization, moment) == Decimal(5)
    before = moment - timedelta(seconds=1)
    assert await total_at(pricer, connection, organization, before) == Decimal("2.5")
    with pytest.raises(NotFoundError):
        await books.assign(connection, organization.id, "missing", actor="tests")


async def test_the_most_specific_discount_counts(
    pool: Pool, connection: Connection, organization: Organization
) -> None:
    await activate_book(pool)
    moment = datetime.now(UTC) + timedelta(minutes=1)
    for pattern, percent in (("*", "10%"), ("gpt-*", "20%"), ("gpt-4o-mini", "90%")):
        await books.discount(
            connection,
            organization.id,
            pattern=pattern,
            percent=percent,
            actor="tests",
            valid_from=moment,
        )
    pricer = Pricer()
    assert await total_at(pricer, connection, organization, moment) == Decimal(2)
    before = moment - timedelta(seconds=1)
    assert await total_at(pricer, connection, organization, before) == Decimal("2.5")


@pytest.mark.parametrize("percent", ["-1%", "100.1%", "NaN%", "20", "0.00001%"])
async def test_a_discount_is_a_percentage(
    connection: Connection, organization: Organization, percent: str
) -> None:
    with pytest.raises(ValidationError):
        await books.discount(
            connection, organization.id, pattern="*", percent=percent, actor="tests"
        )


async def test_an_unknown_model_is_refused_with_its_location(
    pool: Pool, connection: Connection, organization: Organization
) -> None:
    await activate_book(pool)
    items = [
        UsageItem(model="gpt-5", measures={"input_tokens": Decimal(1)}),
        UsageItem(meter="gpt-4o", measures={"input_tokens": Decimal(1)}),
        UsageItem(model="GPT-4o-2024-08-06", measures={"output_tokens": Decimal(100_000)}),
    ]
    now = datetime.now(UTC)
    results = await Pricer().price(connection, organization.id, items, now)
    assert [r.location if isinstance(r, PricingRefusal) else r.total for r in results] == [
        ("model",),
        ("meter",),
        Decimal(1),
    ]


async def test_more_than_a_thousand_items_are_refused(
    connection: Connection, organization: Organization
) -> None:
    with pytest.raises(ValidationError, match="1000"):
        await Pricer().price(connection, organization.id, [ITEM] * 10_000, datetime.now(UTC))
