"""Checks the invariants: each in transactions of its own, a bounded part of it at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import structlog

from shared.invariants import store
from shared.invariants.catalog import AccountInvariant, BoundedInvariant
from shared.invariants.model import VIOLATIONS_MAX, Pass

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

log = structlog.get_logger()

# Of one round: at most so many pages of accounts, halved ones included, each in a transaction of
# its own.
PAGES_MAX = 10
PAGE_ACCOUNTS_MAX = 500
# A page ends after an account with which it has so many rows that no verification has read.
PAGE_ROWS_MAX = 100_000
# A check of several accounts; that of one account has the time of any statement.
PAGE_SECONDS_MAX = 5
PAUSE = timedelta(seconds=50)
FIRST = UUID(int=0)


async def check(
    pool: Pool,
    invariant: BoundedInvariant | AccountInvariant,
    *,
    pause: timedelta = PAUSE,
    page_accounts_max: int = PAGE_ACCOUNTS_MAX,
) -> None:
    """Check an invariant, or its next pages, where its last pass is `pause` ago; store the result.

    A violation is stored as soon as it is found; that the invariant holds, at the end of a pass.
    A page that takes too long is halved, so that the pass goes on.
    """
    async with pool.acquire() as connection:
        await store.prepare(connection, invariant.name)
    pages = _Pages(pool, invariant, pause, page_accounts_max)
    for _ in range(PAGES_MAX):
        if await pages.check_next():
            return


class _Pages:
    """The pages of one round of an invariant; a bounded invariant has one page."""

    def __init__(
        self,
        pool: Pool,
        invariant: BoundedInvariant | AccountInvariant,
        pause: timedelta,
        accounts_max: int,
    ) -> None:
        self._pool = pool
        self._invariant = invariant
        self._pause = pause
        self._accounts_max = accounts_max

    async def check_next(self) -> bool:
        """Check the next page, or halve it; return whether the round ends with it."""
        page: Sequence[UUID] = ()
        name = self._invariant.name
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                found = await store.take(connection, name, self._pause)
                if found is None:
                    return True
                page = await self._page(connection, found)
                rows = await self._violations(connection, page)
                found = _added(found, rows, str(page[-1]) if page else "")
                ended = not page
                held = found.ok
                if ended or not found.ok:
                    held = await store.save_result(connection, name, found)
                await store.save_pass(connection, name, Pass() if ended else found)
        except asyncpg.QueryCanceledError:
            if not page:
                raise
            if len(page) == 1:
                log.warning("invariants.account_too_slow", name=name, organization_id=str(page[0]))
                raise
            log.warning("invariants.page_halved", name=name, accounts=len(page))
            self._accounts_max = len(page) // 2
            return False
        _report(name, found, held=held)
        return ended

    async def _page(self, connection: Connection, found: Pass) -> Sequence[UUID]:
        if isinstance(self._invariant, BoundedInvariant):
            return ()
        after = UUID(found.checked_through) if found.checked_through else FIRST
        return await store.accounts(
            connection, after, accounts_max=self._accounts_max, rows_max=PAGE_ROWS_MAX
        )

    async def _violations(
        self, connection: Connection, page: Sequence[UUID]
    ) -> list[asyncpg.Record]:
        if isinstance(self._invariant, BoundedInvariant):
            return await self._invariant.violations(connection, VIOLATIONS_MAX)
        if len(page) > 1:
            await store.limit_time(connection, PAGE_SECONDS_MAX)
        return await self._invariant.violations(connection, page, VIOLATIONS_MAX)


def _added(found: Pass, rows: Sequence[asyncpg.Record], checked_through: str) -> Pass:
    example = found.example
    if example is None and rows:
        example = _example(rows[0])
    return Pass(checked_through, found.violations + len(rows), example)


def _example(row: asyncpg.Record) -> dict[str, Any]:
    """Return a violating row as JSON: numbers as they are, ids as text, without what is NULL."""
    return {
        _camel(name): value if isinstance(value, int) else str(value)
        for name, value in row.items()
        if value is not None
    }


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def _report(name: str, found: Pass, *, held: bool) -> None:
    """Log a change of the result, after its commit."""
    if held and not found.ok:
        log.error("invariants.broken", name=name, example=found.example)
    elif found.ok and not held:
        log.warning("invariants.restored", name=name)
