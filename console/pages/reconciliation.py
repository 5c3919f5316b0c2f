"""Reconciliation with Stripe: runs with their progress, findings, and the request of a run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from aiohttp import web

from console.framework import charts, filtering, paging
from console.framework.context import Visit
from console.framework.page import get, post
from shared.errors import ValidationError
from shared.reconciliation import service
from shared.reconciliation.model import Finding, FindingKind, RunMode, RunState, RunSummary

LIST = "/console/reconciliation"
CHARTED_RUNS_MAX = service.RUNS_MAX
EVENTS_HINT = "Stripe lists events of the last 30 days; what is older is compared by its objects."
MODES = (
    (RunMode.REPORT, "report only"),
    (RunMode.PREVIEW, "preview repairs and roll them back"),
    (RunMode.EVENTS, "insert and apply missing events, report the rest"),
    (RunMode.REPAIR, "repair what can be repaired"),
)


async def show_list(visit: Visit) -> web.Response:
    """List the runs, newest first, with their drift over time."""
    after = paging.decode(visit.query, datetime, UUID)
    async with visit.reading() as connection:
        newest = await service.latest_runs(connection, limit=CHARTED_RUNS_MAX)
        runs = newest
        if after is not None:
            runs = await service.latest_runs(
                connection, limit=paging.ROWS_MAX + 1, after=(after[0], after[1])
            )
    page = paging.rows(
        runs,
        path=LIST,
        query=visit.query,
        position=lambda summary: (summary.run.requested_at, summary.run.id),
    )
    return visit.render(
        "reconciliation.html",
        title="Reconciliation",
        page=page,
        drift=_drift(newest),
        modes=MODES,
        since_hint=filtering.SINCE_HINT,
        events_hint=EVENTS_HINT,
    )


def _drift(runs: Sequence[RunSummary]) -> charts.Chart:
    """Return the findings that each finished run left unrepaired, the oldest first."""
    finished = [
        (summary.run.finished_at, float(summary.drift))
        for summary in reversed(runs)
        if summary.run.state is RunState.FINISHED and summary.run.finished_at is not None
    ]
    series = charts.Series("drift", finished)
    return charts.chart("Drift", [series], shape=charts.Shape.STEPS, unit="findings not repaired")


async def show(visit: Visit) -> web.Response:
    """Show a run with its progress, its problems and a page of its findings."""
    run_id = visit.path_id("run")
    kind = filtering.choice(visit.query, "kind", FindingKind)
    after = paging.decode(visit.query, str, str)
    async with visit.reading() as connection:
        summary = await service.find_run(connection, run_id)
        found = await service.findings(
            connection,
            run_id,
            kind=kind,
            after=None if after is None else (after[0], after[1]),
            limit=paging.ROWS_MAX + 1,
        )
    page = paging.rows(found, path=f"{LIST}/{run_id}", query=visit.query, position=_position)
    return visit.render(
        "reconciliation_run.html",
        title=f"Run of {summary.run.requested_at:%Y-%m-%d %H:%M}",
        breadcrumbs=[("Reconciliation", LIST)],
        summary=summary,
        run=summary.run,
        counts=[(each, summary.findings[each]) for each in FindingKind if each in summary.findings],
        page=page,
        kind=kind,
        missing_event=FindingKind.MISSING_EVENT,
    )


def _position(finding: Finding) -> tuple[str, str]:
    return finding.kind, finding.object_id


async def request(visit: Visit) -> web.Response:
    """Request a run, which a worker begins within seconds."""
    reason = visit.reason()
    mode = filtering.choice(visit.form, "mode", RunMode)
    since = filtering.since(visit.form, visit.now)
    if mode is None or since is None:
        raise ValidationError(
            "Choose what the run does, and since when it compares: 24h, for example."
        )
    async with visit.transaction() as connection:
        run = await service.request_run(
            connection,
            visit.console.make_id(),
            mode=mode,
            since=since,
            now=visit.now,
            actor=visit.actor,
            reason=reason,
        )
    return visit.redirect(f"{LIST}/{run.id}", "Requested: a worker begins within seconds.")


PAGES = (
    get("/reconciliation", show_list),
    post("/reconciliation", request),
    get("/reconciliation/{run}", show),
)
