"""prepaid reconcile: compare Stripe with the ledger, and repair."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from cli.actor import current_actor
from cli.environment import load_settings
from cli.output import EXIT_REFUSED, AsJson, emit, refuse, run, table
from cli.paging import moment
from cli.reasons import Reason
from shared.config import Settings
from shared.db.pool import create_pool
from shared.errors import ConfigError, NotFoundError
from shared.ids import new_id
from shared.reconcile_settings import RATE_MAX
from shared.reconciliation import rules, service, store
from shared.reconciliation.context import CANDIDATES_AT_ONCE_MAX, open_tools
from shared.reconciliation.model import (
    Finding,
    FindingKind,
    Outcome,
    Run,
    RunMode,
    RunRequest,
    RunSummary,
)
from shared.reconciliation.run import Reconciliation, only_run

# Without a terminal, a line of progress is written as often.
PROGRESS_ROWS = 1_000
NAMES = {
    FindingKind.CHARGED_NOT_CREDITED: "chargedNotCredited",
    FindingKind.CREDITED_NOT_CHARGED: "creditedNotCharged",
    FindingKind.REVERSED_NOT_RECORDED: "reversedNotRecorded",
    FindingKind.ORPHANED_PAYMENT_INTENT: "orphanedPaymentIntents",
    FindingKind.CUSTOMER_DELETED: "customersDeleted",
    FindingKind.PAYMENT_METHOD_GONE: "paymentMethodsGone",
    FindingKind.MISSING_EVENT: "events",
}


def reconcile(
    *,
    since: Annotated[
        str, typer.Option(help="Compare what Stripe created since then: 30m, 24h, 7d or ISO 8601.")
    ] = "24h",
    repair: Annotated[bool, typer.Option("--repair", help="Repair what can be repaired.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Apply repairs, roll them back, and list them.")
    ] = False,
    rate: Annotated[
        int | None, typer.Option(min=1, max=RATE_MAX, help="Requests to Stripe per second.")
    ] = None,
    on_file: Annotated[
        bool,
        typer.Option(
            "--on-file/--no-on-file", help="Compare all customers and payment methods too."
        ),
    ] = True,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue the last run that was interrupted, as it was started."
        ),
    ] = False,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Compare Stripe's events, payments, refunds, disputes and cards with what is recorded here.

    Exit code 1 if there is a difference that is not repaired, or a list that cannot be compared.
    """
    start, now = moment(since), datetime.now(UTC)
    if start > now:
        raise typer.BadParameter("is in the future", param_hint="--since")
    mode = RunMode.PREVIEW if dry_run else RunMode.REPAIR if repair else RunMode.REPORT
    request = RunRequest(mode=mode, since=start, whole=on_file, requested_by="", reason=reason)
    try:
        settings = load_settings()
    except ConfigError as error:
        refuse(error.detail)
    if rules.events_since(start, now) > start:
        print(
            f"prepaid: Stripe has events of the last {rules.EVENTS_LAST.days} days only. Older"
            " payments, refunds and disputes are compared without events.",
            file=sys.stderr,
        )
    document = run(_work(settings, request, rate=rate, resume=resume))
    emit(document, as_json=as_json, human=_human)
    if document["drift"] or document["problems"]:
        raise typer.Exit(EXIT_REFUSED)


async def _work(
    settings: Settings, request: RunRequest, *, rate: int | None, resume: bool
) -> dict[str, Any]:
    per_second = rate or settings.reconcile.rate
    async with (
        only_run(settings.direct_database_url),
        create_pool(
            settings.direct_database_url,
            size=CANDIDATES_AT_ONCE_MAX + 1,
            application_name="prepaid-reconcile",
        ) as pool,
    ):
        async with pool.acquire() as connection, connection.transaction():
            begun = await _resume(connection) if resume else await _begin(connection, request)
        async with open_tools(pool, settings, begun.mode, per_second=per_second) as tools:
            try:
                summary = await Reconciliation(tools, _show_progress).run(begun)
            except asyncio.CancelledError as error:
                error.add_note("Continue with prepaid reconcile --resume")
                raise
        async with pool.acquire() as connection:
            pages = {
                kind: await service.findings(connection, begun.id, kind=kind) for kind in NAMES
            }
    return _document(summary, pages)


async def _begin(connection: Any, request: RunRequest) -> Run:
    actor = await current_actor(connection)
    begun = await store.create_run(
        connection,
        new_id(),
        request.by(actor),
        executor="command",
        due_at=datetime.now(UTC),
    )
    assert begun is not None  # noqa: S101 - only a scheduled run may be there already
    await store.interrupt_others(connection, begun.id)
    if request.mode is RunMode.REPAIR:
        await service.record(connection, begun, actor)
    return begun


async def _resume(connection: Any) -> Run:
    found = await store.unfinished(connection)
    if found is None:
        raise NotFoundError("There is no interrupted run. Start one without --resume.")
    return found


def _show_progress(name: str, running: Run) -> None:
    progress = running.progress[name]
    line = f"{name}: {progress.checked:,} compared"
    if sys.stderr.isatty():
        print(f"\r{line}", end="\n" if progress.done else "", file=sys.stderr, flush=True)
    elif progress.done or progress.checked % PROGRESS_ROWS == 0:
        print(line, file=sys.stderr, flush=True)


def _document(summary: RunSummary, pages: dict[FindingKind, list[Finding]]) -> dict[str, Any]:
    found = summary.run
    dry_run = found.mode is RunMode.PREVIEW
    return {
        "runId": str(found.id),
        "since": found.since,
        "dryRun": dry_run,
        "checked": found.checked,
        "missingEvents": summary.count(FindingKind.MISSING_EVENT),
        **{NAMES[kind]: [_finding(finding) for finding in pages[kind]] for kind in NAMES},
        "repaired": summary.total(Outcome.REPAIRABLE if dry_run else Outcome.REPAIRED),
        "drift": summary.drift,
        "truncated": any(summary.count(kind) > len(pages[kind]) for kind in NAMES),
        "problems": [
            {
                "list": problem.list,
                "account": problem.account or None,
                "permission": problem.permission,
                "detail": problem.detail,
            }
            for problem in found.problems
        ],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "id": finding.object_id,
        "account": finding.account or None,
        "organizationId": str(finding.organization_id) if finding.organization_id else None,
        "amountMinor": finding.amount_minor,
        "currency": finding.currency,
        "credits": finding.credits,
        "outcome": finding.outcome,
        "detail": finding.detail,
    }


def _human(document: dict[str, Any]) -> str:
    lines = [f"{document['checked']:,} objects compared"]
    rows = [
        [name, each["id"], each["outcome"], each["credits"], each["detail"]]
        for name in NAMES.values()
        for each in document[name]
    ]
    columns = ("difference", "id", "outcome", "credits", "detail")
    lines.append(table(columns, rows, empty="no difference"))
    if document["truncated"]:
        lines.append(f"… the first {service.FINDINGS_MAX} of each kind")
    for problem in document["problems"]:
        lacks = f" (the key lacks {problem['permission']})" if problem["permission"] else ""
        lines.append(f"not compared: {problem['list']}{lacks}: {problem['detail']}")
    verb = "would be repaired" if document["dryRun"] else "repaired"
    if rows:
        lines.append(f"{document['repaired']:,} {verb}, {document['drift']:,} not repaired")
    return "\n".join(lines)
