"""Creating, changing and reading budgets, in the caller's transaction.

A posting checks and counts them itself, under the lock of its account: see budgets.sql of the
ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from shared.access import service as audit
from shared.access.model import Actor
from shared.budgets import rules, store
from shared.budgets.model import Budget, BudgetChange, BudgetState, NewBudget
from shared.errors import (
    AlreadyExistsError,
    ConflictError,
    NotFoundError,
    OrganizationClosedError,
)
from shared.ids import new_id
from shared.money import plain

if TYPE_CHECKING:
    from shared.budgets.store import Alerts, Window
    from shared.db.pool import Connection

# Rows that one statement counts: some tenths of a second.
COUNTED_ROWS_MAX = 200_000
SUBJECTS_MAX = 100


async def create(
    connection: Connection,
    organization_id: UUID,
    budget: NewBudget,
    *,
    actor: Actor | str,
    now: datetime,
    budget_id: UUID | None = None,
    reason: str | None = None,
) -> BudgetState:
    """Create a budget; return it with what was used in the current window already.

    The ledger is counted before the account is locked, and under its lock what was posted
    meanwhile: debits wait for no more than that. Raises AlreadyExistsError where the subject has a
    budget with this window, ConflictError beyond 10,000 budgets.
    """
    budget, budget_id = rules.checked(budget), budget_id or new_id()
    if not await store.insert(connection, organization_id, budget_id, budget, now):
        raise AlreadyExistsError(
            f"The {budget.subject_kind} {budget.subject} has a budget with the window"
            f" {budget.window_kind} already; change that one."
        )
    before = await store.window(connection, organization_id, budget.window_kind)
    await _count(connection, organization_id, budget_id, before, after=before.seq_before)
    account = await store.lock_and_add(connection, organization_id)
    if account["closed_at"] is not None:
        raise OrganizationClosedError
    if account["budgets"] > rules.BUDGETS_MAX:
        raise ConflictError(f"An organization has at most {rules.BUDGETS_MAX} budgets.")
    window = await store.window(connection, organization_id, budget.window_kind)
    after = before.last_seq
    if window.end != before.end:
        await store.delete_counters(connection, organization_id, budget_id)
        after = window.seq_before
    await _count(connection, organization_id, budget_id, window, after=after)
    await store.count_holds(connection, organization_id, budget_id, window.end)
    await _record(
        connection,
        organization_id,
        budget_id,
        "budgets.create",
        actor=actor,
        reason=reason,
        details={
            "subjectKind": budget.subject_kind,
            "budgetSubject": budget.subject,
            "window": budget.window_kind,
            "limit": plain(budget.limit),
            "action": budget.action,
            "thresholds": list(budget.thresholds),
        },
    )
    return await find(connection, organization_id, budget_id)


async def _count(
    connection: Connection, organization_id: UUID, budget_id: UUID, window: Window, *, after: int
) -> None:
    for start in range(after, window.last_seq, COUNTED_ROWS_MAX):
        await store.count_rows(
            connection,
            organization_id,
            budget_id,
            after=start,
            through=min(start + COUNTED_ROWS_MAX, window.last_seq),
            window_end=window.end,
        )


async def change(
    connection: Connection,
    organization_id: UUID,
    budget_id: UUID,
    change: BudgetChange,
    *,
    actor: Actor | str,
    now: datetime,
    reason: str | None = None,
) -> BudgetState:
    """Change limit, action or thresholds of a budget; raise NotFoundError where there is none.

    A limit below what is used is accepted: the next debit is refused.
    """
    change = rules.checked_change(change)
    if not await store.change(connection, organization_id, budget_id, change, now):
        raise _not_found(budget_id)
    details: dict[str, Any] = {
        "limit": None if change.limit is None else plain(change.limit),
        "action": change.action,
        "thresholds": None if change.thresholds is None else list(change.thresholds),
    }
    await _record(
        connection,
        organization_id,
        budget_id,
        "budgets.change",
        actor=actor,
        reason=reason,
        details={name: value for name, value in details.items() if value is not None},
    )
    return await find(connection, organization_id, budget_id)


async def put(
    connection: Connection,
    organization_id: UUID,
    budget: NewBudget,
    *,
    actor: Actor | str,
    now: datetime,
    reason: str | None = None,
) -> BudgetState:
    """Create a budget, or change the one of its subject and window."""
    budget = rules.checked(budget)
    existing = await store.id_of(connection, organization_id, budget)
    if existing is None:
        return await create(
            connection, organization_id, budget, actor=actor, now=now, reason=reason
        )
    changes = BudgetChange(limit=budget.limit, action=budget.action, thresholds=budget.thresholds)
    return await change(
        connection, organization_id, existing, changes, actor=actor, now=now, reason=reason
    )


async def remove(
    connection: Connection,
    organization_id: UUID,
    budget_id: UUID,
    *,
    actor: Actor | str,
    now: datetime,
    reason: str | None = None,
) -> None:
    """Remove a budget; raise NotFoundError where there is none."""
    if not await store.remove(connection, organization_id, budget_id, now):
        raise _not_found(budget_id)
    await _record(
        connection,
        organization_id,
        budget_id,
        "budgets.remove",
        actor=actor,
        reason=reason,
        details={},
    )


async def find(connection: Connection, organization_id: UUID, budget_id: UUID) -> BudgetState:
    """Return a budget with its state; raise NotFoundError where there is none."""
    states = await _states(
        connection,
        organization_id,
        await store.page(connection, organization_id, before=None, budget_id=budget_id, limit=1),
    )
    if not states:
        raise _not_found(budget_id)
    return states[0]


async def page(
    connection: Connection, organization_id: UUID, *, before: UUID | None = None, limit: int
) -> list[BudgetState]:
    """Return a page of budgets with their states, newest first."""
    budgets = await store.page(
        connection, organization_id, before=before, budget_id=None, limit=limit
    )
    return await _states(connection, organization_id, budgets)


async def _states(
    connection: Connection,
    organization_id: UUID,
    budgets: Sequence[tuple[Budget, datetime | None]],
) -> list[BudgetState]:
    ids = [budget.id for budget, _ in budgets]
    subjects = await store.subjects(connection, organization_id, ids, subjects_max=SUBJECTS_MAX)
    return [
        BudgetState(budget=budget, resets_at=resets_at, subjects=tuple(subjects[budget.id]))
        for budget, resets_at in budgets
    ]


async def alerts(connection: Connection, organization_id: UUID) -> Alerts:
    """Return the thresholds of a balance."""
    return await store.alerts(connection, organization_id)


async def set_alerts(
    connection: Connection,
    organization_id: UUID,
    thresholds: Sequence[Decimal],
    *,
    actor: Actor | str,
    reason: str | None = None,
) -> Alerts:
    """Set the thresholds of a balance, up to 10; `credits.low` is announced below each of them.

    A threshold above the balance is announced with the next debit.
    """
    checked = rules.checked_alerts(thresholds)
    await store.set_alerts(connection, organization_id, checked)
    await audit.record(
        connection,
        actor=actor,
        action="alerts.set",
        subject=str(organization_id),
        organization_id=organization_id,
        reason=reason,
        details={"thresholds": [plain(threshold) for threshold in checked]},
    )
    return await store.alerts(connection, organization_id)


async def _record(
    connection: Connection,
    organization_id: UUID,
    budget_id: UUID,
    action: str,
    *,
    actor: Actor | str,
    reason: str | None,
    details: dict[str, Any],
) -> None:
    await audit.record(
        connection,
        actor=actor,
        action=action,
        subject=str(budget_id),
        organization_id=organization_id,
        reason=reason,
        details=details,
    )


def _not_found(budget_id: UUID) -> NotFoundError:
    return NotFoundError(f"There is no budget {budget_id}.")
