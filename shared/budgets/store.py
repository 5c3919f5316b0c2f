"""All SQL of budgets outside a posting, and of the thresholds of alerts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from shared.budgets.model import (
    Budget,
    BudgetAction,
    BudgetChange,
    NewBudget,
    SubjectKind,
    SubjectState,
    WindowKind,
)
from shared.db.queries import beside

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__)
LAST_ID = UUID(int=(1 << 128) - 1)


class Window(NamedTuple):
    """The current window: its end, the last row before it, and the last row of all.

    The end is as PostgreSQL writes it, since it may be `infinity`.
    """

    end: str
    seq_before: int
    last_seq: int


class Alerts(NamedTuple):
    """The thresholds that the organization set, and the one for `credits.low` besides."""

    thresholds: list[Decimal]
    low_below: Decimal | None


async def insert(
    connection: Connection,
    organization_id: UUID,
    budget_id: UUID,
    budget: NewBudget,
    now: datetime,
) -> bool:
    """Add a budget that nothing is counted for yet; return False where there is one like it."""
    inserted = await connection.fetchval(
        QUERIES.insert,
        organization_id,
        budget_id,
        budget.subject_kind,
        budget.subject,
        budget.window_kind,
        budget.limit,
        budget.action,
        list(budget.thresholds),
        now,
    )
    return inserted is not None


async def id_of(connection: Connection, organization_id: UUID, budget: NewBudget) -> UUID | None:
    """Return the id of the budget of a subject and window."""
    found: UUID | None = await connection.fetchval(
        QUERIES.id_of, organization_id, budget.subject_kind, budget.subject, budget.window_kind
    )
    return found


async def window(connection: Connection, organization_id: UUID, kind: WindowKind) -> Window:
    """Return the current window, by the clock of the ledger."""
    row = await connection.fetchrow(QUERIES.window, organization_id, kind)
    assert row is not None  # noqa: S101 - every organization has an account
    return Window(*row)


async def count_rows(
    connection: Connection,
    organization_id: UUID,
    budget_id: UUID,
    *,
    after: int,
    through: int,
    window_end: str,
) -> None:
    """Add the usage of a range of rows to the counters of a budget."""
    await connection.execute(
        QUERIES.count_rows, organization_id, budget_id, after, through, window_end
    )


async def delete_counters(connection: Connection, organization_id: UUID, budget_id: UUID) -> None:
    """Remove the counters of a budget whose window ended while it was counted."""
    await connection.execute(QUERIES.delete_counters, organization_id, budget_id)


async def lock_and_add(connection: Connection, organization_id: UUID) -> asyncpg.Record:
    """Lock an account, and count one budget more; return `closed_at` and `budgets`."""
    row = await connection.fetchrow(QUERIES.lock_and_add, organization_id)
    assert row is not None  # noqa: S101 - every organization has an account
    return row


async def count_holds(
    connection: Connection, organization_id: UUID, budget_id: UUID, window_end: str
) -> None:
    """Add the active holds to the counters of a budget, under the account's lock."""
    await connection.execute(QUERIES.count_holds, organization_id, budget_id, window_end)


async def change(
    connection: Connection,
    organization_id: UUID,
    budget_id: UUID,
    change: BudgetChange,
    now: datetime,
) -> bool:
    """Change a budget; return False where there is none."""
    changed = await connection.fetchval(
        QUERIES.change,
        organization_id,
        budget_id,
        change.limit,
        change.action,
        None if change.thresholds is None else list(change.thresholds),
        now,
    )
    return changed is not None


async def remove(
    connection: Connection, organization_id: UUID, budget_id: UUID, now: datetime
) -> bool:
    """Remove a budget; return False where there is none."""
    return (await connection.fetchval(QUERIES.remove, organization_id, budget_id, now)) is not None


async def page(
    connection: Connection,
    organization_id: UUID,
    *,
    before: UUID | None,
    budget_id: UUID | None,
    limit: int,
) -> list[tuple[Budget, datetime | None]]:
    """Return a page of budgets, newest first, each with the end of its current window."""
    rows = await connection.fetch(
        QUERIES.page, organization_id, before or LAST_ID, budget_id, limit
    )
    return [(_budget(row), row["resets_at"]) for row in rows]


async def subjects(
    connection: Connection,
    organization_id: UUID,
    budget_ids: Sequence[UUID],
    *,
    subjects_max: int,
) -> dict[UUID, list[SubjectState]]:
    """Return the subjects of each budget that used or hold most in its current window."""
    rows = await connection.fetch(QUERIES.subjects, organization_id, budget_ids, subjects_max)
    found: dict[UUID, list[SubjectState]] = {budget_id: [] for budget_id in budget_ids}
    for row in rows:
        state = SubjectState(subject=row["subject"], used=row["used"], held=row["held"])
        found[row["budget_id"]].append(state)
    return found


async def purge_windows(connection: Connection, *, rows_max: int) -> int:
    """Delete counters of windows that have ended; return how many."""
    return await _purge(connection, QUERIES.with_ended_windows, QUERIES.purge_windows, rows_max)


async def purge_removed_counters(connection: Connection, *, rows_max: int) -> int:
    """Delete counters of budgets that were removed; return how many."""
    return await _purge(
        connection, QUERIES.with_removed_counters, QUERIES.purge_removed_counters, rows_max
    )


async def purge_removed(connection: Connection, *, rows_max: int) -> int:
    """Delete removed budgets without counters; return how many."""
    return await _purge(connection, QUERIES.with_removed, QUERIES.purge_removed, rows_max)


async def _purge(connection: Connection, listing: str, purge: str, rows_max: int) -> int:
    """Delete rows organization by organization, as a cluster locks them; return how many."""
    purged = 0
    for row in await connection.fetch(listing, rows_max):
        if purged >= rows_max:
            break
        purged += len(await connection.fetch(purge, row["organization_id"], rows_max - purged))
    return purged


async def alerts(connection: Connection, organization_id: UUID) -> Alerts:
    """Return the thresholds of a balance."""
    row = await connection.fetchrow(QUERIES.alerts, organization_id)
    assert row is not None  # noqa: S101 - every organization has an account
    return Alerts(*row)


async def set_alerts(
    connection: Connection, organization_id: UUID, thresholds: Sequence[Decimal]
) -> None:
    """Set the thresholds of a balance."""
    await connection.execute(QUERIES.set_alerts, organization_id, thresholds)


def _budget(row: asyncpg.Record) -> Budget:
    return Budget(
        organization_id=row["organization_id"],
        id=row["id"],
        subject_kind=SubjectKind(row["subject_kind"]),
        subject=row["subject"],
        window_kind=WindowKind(row["window_kind"]),
        limit=row["limit_amount"],
        action=BudgetAction(row["action"]),
        thresholds=tuple(row["thresholds"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
