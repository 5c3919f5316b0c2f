"""Pages of accounts whose check outlasts its time limit are halved, so that a pass goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import pytest
import structlog

from shared.db.pool import LIMITS
from shared.invariants import service
from shared.invariants.catalog import AccountInvariant
from tests.fixtures.invariants import AT_ONCE, results
from tests.fixtures.product import create_organization

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool


async def outlast(connection: Connection) -> None:
    """Run a statement that ends by its time limit alone."""
    await connection.execute("SET LOCAL statement_timeout = '1ms'")
    await connection.execute("SELECT pg_sleep(600)")


class Slow(AccountInvariant):
    """An invariant whose check outlasts its limit for the pages that `is_slow` names."""

    name = "slow"

    def __init__(self, is_slow: Callable[[Sequence[UUID]], bool]) -> None:
        self._is_slow = is_slow
        self.sizes: list[int] = []
        self.limits: dict[int, str] = {}

    async def violations(
        self, connection: Connection, organization_ids: Sequence[UUID], limit: int
    ) -> list[asyncpg.Record]:
        size = len(organization_ids)
        self.sizes.append(size)
        self.limits[size] = await connection.fetchval("SHOW statement_timeout")
        if self._is_slow(organization_ids):
            await outlast(connection)
        return await connection.fetch(
            "SELECT $1::uuid AS organization_id WHERE $2 = 0", UUID(int=0), limit
        )


async def owners(pool: Pool, count: int) -> list[UUID]:
    return sorted([(await create_organization(pool, f"org-{n}")).id for n in range(count)])


async def round_of(pool: Pool, slow: Slow) -> None:
    await service.check(pool, slow, pause=AT_ONCE)


async def place(pool: Pool) -> Any:
    return await pool.fetchval("SELECT checked_through FROM invariant_passes")


async def test_a_page_that_outlasts_its_limit_is_halved_until_it_passes(pool: Pool) -> None:
    await owners(pool, 5)
    slow = Slow(lambda page: len(page) > 1)
    with structlog.testing.capture_logs() as logs:
        await round_of(pool, slow)
    assert slow.sizes == [5, 2, 1, 1, 1, 1, 1, 0]
    assert (await results(pool))["slow"].ok
    assert [line["accounts"] for line in logs if line["event"] == "invariants.page_halved"] == [
        5,
        2,
    ]


async def test_an_account_that_outlasts_its_limit_alone_fails_its_check_and_names_the_account(
    pool: Pool,
) -> None:
    first, second, third = await owners(pool, 3)
    slow = Slow(lambda page: third in page)
    for _ in range(2):
        with (
            structlog.testing.capture_logs() as logs,
            pytest.raises(asyncpg.QueryCanceledError),
        ):
            await round_of(pool, slow)
        assert await place(pool) == str(second)  # the accounts before it are checked
    assert first < second < third
    assert "slow" not in await results(pool)
    slow_accounts = [line for line in logs if line["event"] == "invariants.account_too_slow"]
    assert [line["organization_id"] for line in slow_accounts] == [str(third)]


async def test_pages_of_several_accounts_have_a_short_limit_and_one_account_has_the_usual(
    pool: Pool,
) -> None:
    await owners(pool, 3)
    slow = Slow(lambda _page: False)
    await service.check(pool, slow, pause=AT_ONCE, page_accounts_max=2)
    assert slow.limits[2] == f"{service.PAGE_SECONDS_MAX}s"
    assert slow.limits[1] == LIMITS["statement_timeout"]
