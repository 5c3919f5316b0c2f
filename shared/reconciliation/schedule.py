"""The runs of workers: planned by the schedule or requested by a person, and taken when due."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from shared.reconcile_settings import ReconcileSettings
from shared.reconciliation import rules, store
from shared.reconciliation.model import Run

if TYPE_CHECKING:
    from shared.db.pool import Connection


async def is_due(
    connection: Connection, settings: ReconcileSettings, run_id: UUID, now: datetime
) -> bool:
    """Say whether a run is due; plan the next scheduled one, with this id, where none is planned.

    The first one is due an interval after this was first called, so that a new installation does
    not begin with one.
    """
    scheduled = settings.every is not None
    agenda = await store.agenda(connection, scheduled=scheduled)
    if settings.every is not None and not agenda["is_planned"]:
        last = await store.last_scheduled(connection)
        await store.create_run(
            connection,
            run_id,
            rules.scheduled_request(settings, now, compared_until=None, whole_at=None),
            executor="worker",
            due_at=(last["started_at"] or now) + settings.every,
            scheduled=True,
        )
    return bool(agenda["is_due"])


async def take(connection: Connection, settings: ReconcileSettings, now: datetime) -> Run | None:
    """Begin, or continue, the run that has been due longest; the caller holds the lock."""
    run = await store.take_due(connection, scheduled=settings.every is not None)
    if run is None or not run.scheduled or run.progress:
        return run
    last = await store.last_scheduled(connection)
    request = rules.scheduled_request(
        settings, now, compared_until=last["compared_until"], whole_at=last["whole_started_at"]
    )
    return await store.set_period(connection, run.id, request)
