"""The SQL of the verification."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from shared.db.queries import beside
from shared.ledger.rules import EFFECTIVE_AHEAD_MAX
from shared.ledger.verification.model import FIRST, PROBLEMS_MAX, Run

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__)
_CHECK_ROWS = beside(__file__, "check_rows.sql")
_CHECK_ACCOUNTS = beside(__file__, "check_accounts.sql")
_CHECK_GRANTS = beside(__file__, "check_grants.sql")
_CHECK_PAYMENTS = beside(__file__, "check_payments.sql")
_CHECK_USAGE = beside(__file__, "check_usage.sql")

FILLED_ROWS_MAX = 1_000
_PAYMENTS = (
    _CHECK_PAYMENTS.verify_payments,
    _CHECK_PAYMENTS.verify_invoices,
    _CHECK_PAYMENTS.verify_attempts,
)
# Checks that read the grants, holds, payments and segments of an organization, not its debits.
_DERIVED = (
    _CHECK_ACCOUNTS.verify_accounts,
    _CHECK_GRANTS.verify_grants,
    _CHECK_GRANTS.verify_terms,
    *_PAYMENTS,
)
# Checks that read all of its rows.
_WHOLE = (_CHECK_USAGE.verify_usage, _CHECK_PAYMENTS.verify_captures)
# Usage that was dated ahead when dimensions were turned on has no totals by dimension.
_BREAKDOWNS_AFTER = EFFECTIVE_AHEAD_MAX + timedelta(hours=1)


async def rows(
    connection: Connection, after: tuple[UUID, int], last: UUID, limit: int
) -> asyncpg.Record:
    """Check a page of rows, in the order of the ledgers."""
    (page,) = await connection.fetch(_CHECK_ROWS.verify_rows, *after, last, limit)
    return page


async def accounts(
    connection: Connection, after: UUID, last: UUID, limit: int
) -> list[asyncpg.Record]:
    """Return a page of accounts: `organization_id` and `last_seq`."""
    return await connection.fetch(QUERIES.accounts_page, after, last, limit)


async def new_accounts(connection: Connection, after: UUID, limit: int) -> list[asyncpg.Record]:
    """Return a page of accounts that have changed since they were verified."""
    return await connection.fetch(QUERIES.new_accounts, after, limit)


async def derived(
    connection: Connection, organization_ids: Sequence[UUID], *, whole: bool
) -> list[asyncpg.Record]:
    """Check what is derived from the rows of organizations; return the first problems."""
    problems: list[asyncpg.Record] = []
    for query in (*_DERIVED, *_WHOLE) if whole else _DERIVED:
        problems += await connection.fetch(query, organization_ids, PROBLEMS_MAX)
    if whole:
        problems += await connection.fetch(
            _CHECK_USAGE.verify_breakdowns, organization_ids, PROBLEMS_MAX, _BREAKDOWNS_AFTER
        )
    return problems


async def account_problems(
    connection: Connection, organization_ids: Sequence[UUID], limit: int
) -> list[asyncpg.Record]:
    """Check accounts against their last row, grants, holds and segments."""
    return await connection.fetch(_CHECK_ACCOUNTS.verify_accounts, organization_ids, limit)


async def payment_problems(
    connection: Connection, organization_ids: Sequence[UUID], limit: int
) -> list[asyncpg.Record]:
    """Check payments, invoices and recharge attempts against the rows that credited them."""
    found: list[asyncpg.Record] = []
    for query in _PAYMENTS:
        found += await connection.fetch(query, organization_ids, limit)
    return found[:limit]


async def fill_terms(connection: Connection, organization_ids: Sequence[UUID]) -> None:
    """Hash the terms of the grants that have no hash yet, in batches."""
    for row in await connection.fetch(QUERIES.with_unhashed_terms, organization_ids):
        filled = FILLED_ROWS_MAX
        while filled == FILLED_ROWS_MAX:
            done = await connection.execute(
                QUERIES.fill_terms, row["organization_id"], FILLED_ROWS_MAX
            )
            filled = int(done.rpartition(" ")[2])


async def save_checkpoints(
    connection: Connection, heads: Sequence[tuple[UUID, int, bytes]]
) -> None:
    """Record the row up to which each ledger is verified."""
    columns = [list(column) for column in zip(*heads, strict=True)]
    if columns:
        await connection.execute(QUERIES.save_checkpoints, *columns)


async def is_read_only(connection: Connection) -> bool:
    """Return whether the database takes no writes: a standby, for example."""
    return bool(await connection.fetchval("SHOW transaction_read_only") == "on")


async def start(connection: Connection, run_id: UUID, *, whole: bool) -> Run:
    """Record a new run."""
    return _run(await connection.fetchrow(QUERIES.start, run_id, whole, FIRST))


async def start_of_day(
    connection: Connection, run_id: UUID, day: date, left_after: timedelta
) -> Run | None:
    """Take the incremental run of a day; None where it is done, or another process has it."""
    row = await connection.fetchrow(QUERIES.start_of_day, run_id, day, FIRST, left_after)
    return None if row is None else _run(row)


async def unfinished(connection: Connection) -> Run | None:
    """Return the last whole run, where it did not end."""
    row = await connection.fetchrow(QUERIES.unfinished)
    return None if row is None else _run(row)


async def save(connection: Connection, run: Run, *, finished: bool = False) -> None:
    """Save the progress of a run."""
    await connection.execute(
        QUERIES.save,
        run.id,
        run.phase,
        *run.after,
        run.organizations,
        run.transactions,
        run.problems,
        finished,
    )


def _run(row: Any) -> Run:
    return Run(
        id=row["id"],
        phase=row["phase"],
        after=(row["after_organization_id"], row["after_seq"]),
        organizations=row["organizations"],
        transactions=row["transactions"],
        problems=row["problems"],
    )
