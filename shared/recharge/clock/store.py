"""The SQL of what is due by the clock: schedules, ended suspensions, missed attempts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from shared.db.queries import beside
from shared.recharge.attempts import store as attempt_store
from shared.recharge.model import (
    Schedule,
)

if TYPE_CHECKING:
    from shared.db.pool import Connection

QUERIES = beside(__file__)
BUSY_SCHEDULE_WAIT = timedelta(minutes=1)


async def rules_after(connection: Connection, after: UUID, *, limit: int) -> list[UUID]:
    """Return the organizations after one, in order of their ids, that have a rule."""
    rows = await connection.fetch(QUERIES.rules_after, after, limit)
    return [row["organization_id"] for row in rows]


async def lock_due(
    connection: Connection, now: datetime, looked_at: Sequence[UUID], *, rows_max: int
) -> list[UUID]:
    """Lock the accounts for which something is due, up to a limit for each kind.

    Of `looked_at`, those whose balance is low and that have no attempt armed.
    """
    due = await connection.fetch(QUERIES.due, now, rows_max, looked_at)
    if not due:
        return []
    rows = await connection.fetchmany(QUERIES.lock, [(row["organization_id"],) for row in due])
    return [row["organization_id"] for row in rows]


async def expire_top_ups(
    connection: Connection, organizations: Sequence[UUID], now: datetime
) -> None:
    """End the links of waiting top-ups where auto-recharge has an amount to charge."""
    if await connection.fetch(QUERIES.expire_top_ups, now, organizations):
        await attempt_store.notify_workers(connection)


async def scheduled(
    connection: Connection, organizations: Sequence[UUID], now: datetime
) -> list[tuple[UUID, Schedule, int]]:
    """Return the schedules that are due."""
    rows = await connection.fetch(QUERIES.scheduled, now, organizations)
    return [
        (row["organization_id"], Schedule(row["schedule"]), row["schedule_day"]) for row in rows
    ]


async def due_again(connection: Connection, organization_id: UUID, now: datetime) -> None:
    """Make an organization's schedule, if it has one, due again."""
    await connection.execute(QUERIES.due_again, organization_id, now)


async def arm_scheduled(
    connection: Connection, organization_id: UUID, attempt_id: UUID, now: datetime, after: datetime
) -> None:
    """Arm a scheduled attempt and set the next run: in a minute while another attempt is live."""
    armed = await connection.fetchrow(QUERIES.arm_scheduled, organization_id, attempt_id, now)
    if armed is not None:
        await attempt_store.notify_workers(connection)
    next_run_at = now + BUSY_SCHEDULE_WAIT if armed is None else after
    await connection.execute(QUERIES.run_next, organization_id, next_run_at)


async def end_suspensions(
    connection: Connection, organizations: Sequence[UUID], now: datetime
) -> None:
    """End the suspensions whose time is over."""
    await connection.execute(QUERIES.end_suspensions, now, organizations)
