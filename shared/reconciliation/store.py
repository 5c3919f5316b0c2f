"""The SQL of runs and findings."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from shared.db.queries import beside
from shared.errors import RunLostError
from shared.ledger import keys
from shared.reconciliation.model import (
    Finding,
    FindingKind,
    Outcome,
    Problem,
    Progress,
    Run,
    RunMode,
    RunRequest,
    RunState,
    RunSummary,
)

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__)


async def create_run(
    connection: Connection,
    run_id: UUID,
    request: RunRequest,
    *,
    executor: str,
    due_at: datetime,
    scheduled: bool = False,
) -> Run | None:
    """Store a run; None: a scheduled run has not ended. `executor`: `worker` or `command`.

    One of the command begins at once: its process must hold the lock.
    """
    row = await connection.fetchrow(
        QUERIES.create_run,
        run_id,
        request.mode,
        executor,
        request.requested_by,
        request.reason,
        scheduled,
        due_at,
        request.since,
        request.until,
        request.whole,
    )
    return None if row is None else _run(row)


async def agenda(connection: Connection, *, scheduled: bool) -> asyncpg.Record:
    """Return whether a worker has a run to begin or to continue (`is_due`).

    `is_planned`: the next scheduled run is stored. `scheduled`: those count as due.
    """
    row = await connection.fetchrow(QUERIES.agenda, scheduled)
    assert row is not None  # noqa: S101 - an aggregate has a row
    return row


async def take_due(connection: Connection, *, scheduled: bool) -> Run | None:
    """Begin, or continue, the worker's run that has been due longest, if any."""
    row = await connection.fetchrow(QUERIES.take_due, scheduled)
    return None if row is None else _run(row)


async def set_period(connection: Connection, run_id: UUID, request: RunRequest) -> Run:
    """Set what a scheduled run compares, when it begins."""
    row = await connection.fetchrow(
        QUERIES.set_period, run_id, request.mode, request.since, request.until, request.whole
    )
    return _run(row)


async def last_scheduled(connection: Connection) -> asyncpg.Record:
    """Return when scheduled runs started last (`started_at`, `whole_started_at`).

    `compared_until` is the end of what they have compared.
    """
    row = await connection.fetchrow(QUERIES.last_scheduled)
    assert row is not None  # noqa: S101 - an aggregate has a row
    return row


async def unfinished(connection: Connection) -> Run | None:
    """Return the newest run of the command line that has not ended."""
    row = await connection.fetchrow(QUERIES.unfinished)
    return None if row is None else _run(row)


async def interrupt_others(connection: Connection, run_id: UUID) -> None:
    """End the runs of the command line that died; the caller holds the lock."""
    await connection.execute(QUERIES.interrupt, run_id)


async def save(connection: Connection, run: Run) -> None:
    """Save the place that a run has reached; raise RunLostError where it was taken over."""
    saved = await connection.fetchval(
        QUERIES.save,
        run.id,
        msgspec.to_builtins(run.progress),
        run.checked,
        msgspec.to_builtins(run.problems),
    )
    _check_running(saved, run.id)


async def finish(connection: Connection, run_id: UUID, detail: str | None = None) -> None:
    """End a run; `detail`: why it failed. What has resolved itself is deleted first.

    An event that the run inserted is repaired where a worker has applied it since. Raises
    RunLostError where the run was taken over.
    """
    await connection.execute(QUERIES.repair_applied, run_id)
    await connection.execute(QUERIES.delete_resolved, run_id, keys.PAYMENT)
    await connection.execute(QUERIES.forget_seen, run_id)
    _check_running(await connection.fetchval(QUERIES.finish, run_id, detail), run_id)


def _check_running(saved: UUID | None, run_id: UUID) -> None:
    if saved is None:
        raise RunLostError(f"The run {run_id} does not go on here: it was taken over.")


async def purge(connection: Connection, retention: timedelta) -> None:
    """Delete runs that ended longer ago."""
    await connection.execute(QUERIES.purge, retention)


async def save_findings(connection: Connection, run_id: UUID, findings: Sequence[Finding]) -> None:
    """Store findings; one that the run has already is updated."""
    if not findings:
        return
    await connection.execute(
        QUERIES.save_findings,
        run_id,
        [finding.kind for finding in findings],
        [finding.object_id for finding in findings],
        [finding.account for finding in findings],
        [finding.organization_id for finding in findings],
        [finding.outcome for finding in findings],
        [finding.detail for finding in findings],
        [finding.amount_minor for finding in findings],
        [finding.currency for finding in findings],
        [finding.credits for finding in findings],
    )


async def find_run(connection: Connection, run_id: UUID) -> Run | None:
    """Return a run, if there is one of this id."""
    row = await connection.fetchrow(QUERIES.run, run_id)
    return None if row is None else _run(row)


async def latest_runs(
    connection: Connection, limit: int, after: tuple[datetime, UUID] | None
) -> list[Run]:
    """Return runs, newest first."""
    rows = await connection.fetch(QUERIES.latest_runs, limit, *(after or (None, None)))
    return [_run(row) for row in rows]


async def summaries(connection: Connection, runs: Sequence[Run]) -> list[RunSummary]:
    """Return runs with their numbers of findings."""
    counts: dict[UUID, dict[FindingKind, dict[Outcome, int]]] = {run.id: {} for run in runs}
    for row in await connection.fetch(QUERIES.count_findings, list(counts)):
        kinds = counts[row["run_id"]].setdefault(FindingKind(row["kind"]), {})
        kinds[Outcome(row["outcome"])] = row["findings"]
    return [RunSummary(run=run, findings=counts[run.id]) for run in runs]


async def findings(
    connection: Connection,
    run_id: UUID,
    kind: FindingKind | None,
    after: tuple[str, str] | None,
    limit: int,
) -> list[Finding]:
    """Return a page of the findings of a run, in the order of kind and object."""
    rows = await connection.fetch(QUERIES.findings, run_id, kind, *(after or (None, None)), limit)
    return [_finding(row) for row in rows]


async def drift(connection: Connection) -> dict[FindingKind, int]:
    """Return how many findings of the last runs are not repaired, by kind."""
    rows = await connection.fetch(QUERIES.drift)
    return {FindingKind(row["kind"]): row["findings"] for row in rows}


async def last_finished(connection: Connection) -> asyncpg.Record | None:
    """Return the `age_seconds` of the last finished run and the number of its `problems`."""
    return await connection.fetchrow(QUERIES.last_finished)


async def lock(connection: Connection) -> bool:
    """Take the lock of reconciliation until the end of the transaction; False: it is taken."""
    return bool(await connection.fetchval(QUERIES.lock))


async def renew_lock(connection: Connection) -> None:
    """Show PostgreSQL that the holder of the lock is alive."""
    await connection.fetchval(QUERIES.renew_lock)


def _run(row: Any) -> Run:
    values = dict(row)
    values.pop("executor")
    return Run(
        **{
            **values,
            "mode": RunMode(row["mode"]),
            "state": RunState(row["state"]),
            "progress": msgspec.convert(row["progress"], dict[str, Progress]),
            "problems": msgspec.convert(row["problems"], list[Problem]),
        }
    )


def _finding(row: Any) -> Finding:
    return Finding(
        **{**dict(row), "kind": FindingKind(row["kind"]), "outcome": Outcome(row["outcome"])}
    )
