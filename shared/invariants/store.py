"""The stored passes and results of invariants."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from shared import metrics
from shared.invariants.catalog import BY_NAME, QUERIES
from shared.invariants.model import CHECK_AGE_MAX, InvariantResult, Pass

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool


async def prepare(connection: Connection, name: str) -> None:
    """Make an invariant that has never been checked one that can be taken."""
    await connection.execute(QUERIES.prepare, name)


async def take(connection: Connection, name: str, pause: timedelta) -> Pass | None:
    """Take an invariant until the end of the caller's transaction.

    None where its last pass ended less than `pause` ago, or another worker checks it.
    """
    row = await connection.fetchrow(QUERIES.take, name, pause)
    return None if row is None else Pass(**row)


async def save_pass(connection: Connection, name: str, found: Pass) -> None:
    """Store how far a pass has come; the default Pass where it has ended."""
    await connection.execute(
        QUERIES.save_pass, name, found.checked_through, found.violations, found.example
    )


async def save_result(connection: Connection, name: str, found: Pass) -> bool:
    """Store the result of a pass; return whether the invariant held before."""
    held: bool = await connection.fetchval(
        QUERIES.save_result, name, found.violations, found.example
    )
    return held


async def results(connection: Connection) -> list[InvariantResult]:
    """Return the last result of each invariant that has been checked, by name."""
    return [InvariantResult(**row) for row in await connection.fetch(QUERIES.results)]


async def overdue(connection: Connection) -> dict[str, datetime]:
    """Return the invariants that no worker has checked for CHECK_AGE_MAX, and when one last did.

    Of accounts, a page counts: the pass over many of them may take hours.
    """
    rows = await connection.fetch(QUERIES.overdue, list(BY_NAME), CHECK_AGE_MAX)
    return {row["name"]: row["checked_at"] for row in rows}


async def accounts(
    connection: Connection, after: UUID, *, accounts_max: int, rows_max: int
) -> Sequence[UUID]:
    """Return a page of accounts, shorter where they have many rows that are not verified."""
    rows = await connection.fetch(QUERIES.accounts_page, after, accounts_max, rows_max)
    return [row["organization_id"] for row in rows]


async def limit_time(connection: Connection, seconds: int) -> None:
    """Limit the duration of statements in the caller's transaction."""
    await connection.execute(QUERIES.limit_time, f"{seconds}s")


async def measure(pool: Pool) -> None:
    """Set the gauges of the invariants from their stored results, in any process."""
    async with pool.acquire() as connection:
        found = await results(connection)
    metrics.INVARIANT_OK.clear()
    for result in found:
        metrics.INVARIANT_OK.labels(result.name).set(result.ok)
