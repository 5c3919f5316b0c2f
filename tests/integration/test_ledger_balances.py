"""Reading balances together: one statement for all who come at once, and never an old answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from shared.db.pool import UNAVAILABLE, create_pool
from shared.ids import new_id
from shared.ledger.balances import Balances
from tests.fixtures.ledger import grant, hold, make_due, post, usage
from tests.fixtures.product import closed_port, create_organization

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization


@asynccontextmanager
async def told_of_statements(database_url: str) -> AsyncIterator[tuple[Pool, list[str]]]:
    """Give a pool of one connection, and a list that every statement on it comes into."""
    async with create_pool(database_url, size=1, application_name="tests") as pool:
        statements: list[str] = []
        async with pool.acquire() as connection:
            connection.add_query_logger(lambda told: statements.append(told.query))
        yield pool, statements


async def test_callers_that_come_together_are_read_by_one_statement(
    database_url: str, pool: Pool, organization: Organization
) -> None:
    other = await create_organization(pool, "other")
    await post(pool, grant(organization, 7), grant(other, 8))
    async with told_of_statements(database_url) as (own, statements):
        balances = Balances(own)
        asked = [organization.id, other.id, new_id()] * 20
        found = await asyncio.gather(*map(balances.read, asked))
        await asyncio.sleep(0)
    assert [row and row.balance for row in found] == [Decimal(7), Decimal(8), None] * 20
    assert len([sql for sql in statements if "FROM accounts" in sql]) == 1


async def test_what_was_posted_before_a_reader_came_is_in_what_it_sees(
    pool: Pool, organization: Organization
) -> None:
    """Others read all the time: nobody is given the answer of a read that began before it came."""
    await post(pool, grant(organization, 100))
    balances = Balances(pool)
    done = asyncio.Event()

    async def read_on() -> None:
        while not done.is_set():
            await balances.read(organization.id)

    async with asyncio.TaskGroup() as readers:
        for _ in range(5):
            readers.create_task(read_on())
        for left in range(99, 69, -1):
            await post(pool, usage(organization, 1))
            found = await balances.read(organization.id)
            assert found is not None
            assert found.balance == left
        done.set()


async def test_what_is_due_by_now_counts_as_expired_for_its_own_organization_alone(
    pool: Pool, organization: Organization
) -> None:
    other = await create_organization(pool, "other")
    for owner in (organization, other):
        await post(pool, grant(owner, 10))
        await hold(pool, owner, 4)
    expired = await pool.fetchval(
        "SELECT id FROM holds WHERE organization_id = $1", organization.id
    )
    await make_due(pool, "holds", expired)
    balances = Balances(pool)
    first, second = await asyncio.gather(balances.read(organization.id), balances.read(other.id))
    assert first is not None
    assert second is not None
    assert [first.held, second.held] == [Decimal(0), Decimal(4)]


async def test_every_reader_hears_that_the_database_is_away() -> None:
    url = f"postgresql://prepaid@127.0.0.1:{closed_port()}/prepaid"
    async with create_pool(url, size=1, application_name="tests") as nowhere:
        balances = Balances(nowhere)
        outcomes = await asyncio.gather(
            *(balances.read(new_id()) for _ in range(3)), return_exceptions=True
        )
        for outcome in outcomes:
            with pytest.raises(UNAVAILABLE):
                raise outcome if isinstance(outcome, Exception) else AssertionError(outcome)


async def test_closing_waits_for_the_reads_that_are_under_way(
    pool: Pool, organization: Organization
) -> None:
    balances = Balances(pool)
    reading = asyncio.create_task(balances.read(organization.id))
    await asyncio.sleep(0)
    await balances.close()
    await asyncio.sleep(0)
    assert reading.done()
    assert (await reading) is not None
