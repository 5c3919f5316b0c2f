"""Checks the invariants: each in transactions of its own, a bounded part of it at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog

from shared.invariants import store
from shared.invariants.catalog import AccountInvariant, BoundedInvariant
from shared.invariants.model import VIOLATIONS_MAX, Pass

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Pool

log = structlog.get_logger()

# Of one round: at most so many pages of accounts, each in a transaction of its own.
PAGES_MAX = 10
PAGE_ACCOUNTS_MAX = 500
# A page ends after an account with which it has so many rows that no verification has read.
PAGE_ROWS_MAX = 100_000
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
    """
    async with pool.acquire() as connection:
        await store.prepare(connection, invariant.name)
    for _ in range(PAGES_MAX):
        async with pool.acquire() as connection, connection.transaction():
            found = await store.take(connection, invariant.name, pause)
            if found is None:
                return
            page: Sequence[UUID] = ()
            if isinstance(invariant, AccountInvariant):
                after = UUID(found.checked_through) if found.checked_through else FIRST
                page = await store.accounts(
                    connection, after, accounts_max=page_accounts_max, rows_max=PAGE_ROWS_MAX
                )
                rows = await invariant.violations(connection, page, VIOLATIONS_MAX)
            else:
                rows = await invariant.violations(connection, VIOLATIONS_MAX)
            found = _added(found, rows, str(page[-1]) if page else "")
            ended = not page
            held = found.ok
            if ended or not found.ok:
                held = await store.save_result(connection, invariant.name, found)
            await store.save_pass(connection, invariant.name, Pass() if ended else found)
        _report(invariant.name, found, held=held)
        if ended:
            return


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
