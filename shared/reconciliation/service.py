"""Runs of reconciliation: requested, listed, and measured."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from shared import metrics
from shared.access import service as audit
from shared.access.model import Actor
from shared.errors import InvalidRequestError, NotFoundError
from shared.reconciliation import store
from shared.reconciliation.model import Finding, FindingKind, Run, RunMode, RunRequest, RunSummary

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

RUNS_MAX = 100
FINDINGS_MAX = 1_000


async def request_run(
    connection: Connection,
    run_id: UUID,
    *,
    mode: RunMode,
    since: datetime,
    now: datetime,
    actor: Actor,
    reason: str | None = None,
) -> Run:
    """Request a run, which a worker begins within seconds; recorded in the audit log.

    Raises InvalidRequestError where `since` is in the future.
    """
    if since > now:
        raise InvalidRequestError("The start of the period is in the future.")
    request = RunRequest(mode=mode, since=since, requested_by=actor.name, reason=reason)
    run = await store.create_run(connection, run_id, request, executor="worker", due_at=now)
    assert run is not None  # noqa: S101 - only a scheduled run may be there already
    await record(connection, run, actor)
    return run


async def record(connection: Connection, run: Run, actor: Actor | str) -> None:
    """Record in the audit log that a person has started or requested a run."""
    await audit.record(
        connection,
        actor=actor,
        action="reconciliation.run",
        subject=str(run.id),
        reason=run.reason,
        details={"mode": run.mode, "since": run.since.isoformat()},
    )


async def latest_runs(
    connection: Connection, *, limit: int = RUNS_MAX, after: tuple[datetime, UUID] | None = None
) -> list[RunSummary]:
    """Return runs with the number of their findings, newest first.

    `after`: `requested_at` and `id` of the last run of the page before.
    """
    runs = await store.latest_runs(connection, min(limit, RUNS_MAX), after)
    return await store.summaries(connection, runs)


async def find_run(connection: Connection, run_id: UUID) -> RunSummary:
    """Return a run with the number of its findings; raise NotFoundError."""
    run = await store.find_run(connection, run_id)
    if run is None:
        raise NotFoundError(f"There is no run {run_id}.")
    (summary,) = await store.summaries(connection, [run])
    return summary


async def findings(
    connection: Connection,
    run_id: UUID,
    *,
    kind: FindingKind | None = None,
    after: tuple[str, str] | None = None,
    limit: int = FINDINGS_MAX,
) -> list[Finding]:
    """Return a page of the findings of a run, in the order of kind and object.

    `after`: `kind` and `object_id` of the last finding of the page before.
    """
    return await store.findings(connection, run_id, kind, after, min(limit, FINDINGS_MAX))


async def measure(pool: Pool) -> None:
    """Set the gauges of drift: what the last finished runs found and did not repair."""
    async with pool.acquire() as connection:
        drift = await store.drift(connection)
        last = await store.last_finished(connection)
    for kind in FindingKind:
        metrics.RECONCILE_DRIFT.labels(kind).set(drift.get(kind, 0))
    metrics.RECONCILE_DRIFT.labels("not_compared").set(last["problems"] if last else 0)
    metrics.RECONCILE_AGE_SECONDS.set(last["age_seconds"] if last else math.inf)
