"""prepaid events replay: apply events again, preview that, or finish an interrupted replay."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import UUID

import typer

from cli.actor import current_actor
from cli.commands.events import ErrorClass, Since, State, Type, select
from cli.database import database_url
from cli.environment import load_settings
from cli.output import EXIT_REFUSED, AsJson, emit, run, table
from cli.reasons import Reason
from shared.db.pool import create_pool
from shared.errors import NotFoundError
from shared.events.nodes import NodeBatches
from shared.events.service import Applier
from shared.ids import new_id
from shared.inbox.admin import store
from shared.money import plain
from shared.payments.client import stripe_client
from shared.payments.lookup import StripeLookup
from shared.payments.model import SaleTerms
from shared.replay.model import BatchState, Mode, OrganizationDiff, ReplayOptions, ReplayReport
from shared.replay.refetch import Refetcher
from shared.replay.rules import RATE_MAX, RATE_MIN
from shared.replay.service import Replayer

COLUMNS = ("organization", "slug", "before", "after", "changes")
ROWS_SHOWN_MAX = 5


def _batch_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise typer.BadParameter("must be the batchId of a replay") from None


Rate = Annotated[
    float | None,
    typer.Option(min=RATE_MIN, max=RATE_MAX, metavar="N", help="At most N a second."),
]
StopAfter = Annotated[
    int | None, typer.Option(min=1, metavar="K", help="Stop after K failures; see --resume.")
]
Refetch = Annotated[
    bool, typer.Option("--refetch", help="Apply Stripe's object of today, not the stored one.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print what a replay would do, and change nothing.")
]
Resume = Annotated[
    UUID | None,
    typer.Option(parser=_batch_id, metavar="BATCH_ID", help="Finish an interrupted replay."),
]


def register(app: typer.Typer) -> None:
    """Add the command to its group."""
    app.command()(replay)


def replay(  # noqa: PLR0913, PLR0917 - an argument for each option
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID…]")] = None,
    state: State = None,
    event_type: Type = None,
    since: Since = None,
    error_class: ErrorClass = None,
    dry_run: DryRun = False,
    rate: Rate = None,
    stop_after: StopAfter = None,
    refetch: Refetch = False,
    resume: Resume = None,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Apply events again: the named ones, or all that match the filters (dead by default)."""
    if resume is not None:
        options = (ids, state, event_type, since, error_class, rate, stop_after, reason)
        if dry_run or refetch or any(value is not None and value != [] for value in options):
            raise typer.BadParameter("--resume finishes a replay as it was started: name no more")
        report = run(_resume(resume))
    else:
        selection = select(
            ids, state=state, event_type=event_type, since=since, error_class=error_class
        )
        how = ReplayOptions(rate=rate, stop_after=stop_after, refetch=refetch)
        report = run(_replay(selection, how, dry_run=dry_run, reason=reason))
    emit(report, as_json=as_json, human=_human)
    if report["failed"] or report["state"] != BatchState.FINISHED:
        raise typer.Exit(EXIT_REFUSED)


async def _replay(
    selection: Any, options: ReplayOptions, *, dry_run: bool, reason: str | None
) -> ReplayReport:
    async with _replayer(read_only=dry_run) as replayer:
        async with replayer.pool.acquire() as connection:
            named = selection if isinstance(selection, list) else []
            if unknown := await store.unknown(connection, named):
                raise NotFoundError(f"There is no event {unknown[0]!r}.")
            actor = await current_actor(connection)
        if dry_run:
            return await replayer.preview(selection, options=options)
        return await replayer.replay(selection, actor=actor, reason=reason, options=options)


async def _resume(batch_id: UUID) -> ReplayReport:
    async with _replayer() as replayer:
        async with replayer.pool.acquire() as connection:
            actor = await current_actor(connection)
        return await replayer.resume(batch_id, actor=actor)


@asynccontextmanager
async def _replayer(*, read_only: bool = False) -> AsyncIterator[Replayer]:
    settings = load_settings()
    async with (
        create_pool(database_url(), size=2, application_name="prepaid-cli") as pool,
        stripe_client(
            settings.stripe_api_key, settings.stripe_api_base, read_only=read_only
        ) as client,
    ):
        lookup = StripeLookup(client)
        applier = Applier(pool, SaleTerms.of(settings), lookup=lookup, nodes=NodeBatches(pool))
        yield Replayer(pool, applier, new_id, Mode.of(settings), Refetcher(client))


def _human(report: dict[str, Any]) -> str:
    counts = ", ".join(
        f"{report[word]} {word}" for word in ("selected", "applied", "noop", "failed")
    )
    name = "dry run" if report["dryRun"] else f"batch {report['batchId']}"
    lines = [f"{name}: {counts}"]
    lines += [f"  {f['id']} {f['state'] or '-'}: {f['error']}" for f in report["failures"]]
    if (more := report["failed"] - len(report["failures"])) > 0:
        lines.append(f"  and {more} more failures: prepaid events list --state dead")
    rows = [
        [d["organizationId"], d["slug"], d["before"], d["after"], "; ".join(_changes(d))]
        for d in report["diff"]
    ]
    if rows:
        lines.append(table(COLUMNS, rows, empty=""))
    if (more := report["organizations"] - len(rows)) > 0:
        lines.append(f"and {more} more organizations")
    if report["state"] == BatchState.STOPPED:
        lines.append(f"stopped; continue with prepaid events replay --resume {report['batchId']}")
    return "\n".join(lines)


def _changes(diff: OrganizationDiff) -> list[str]:
    rows = diff["rows"]
    changes = [f"{row['type']} {plain(row['amount'])}" for row in rows[:ROWS_SHOWN_MAX]]
    if len(rows) > ROWS_SHOWN_MAX:
        changes.append(f"and {len(rows) - ROWS_SHOWN_MAX} more transactions")
    changes += [f"{each['messages']} x {each['type']}" for each in diff.get("messages", ())]
    changes += [
        f"recharge attempt {each['before'] or 'none'} -> {each['after'] or 'ended'}"
        for each in diff.get("rechargeAttempts", ())
    ]
    if rule := diff.get("autoRecharge"):
        changes.append(f"auto-recharge {rule['before']} -> {rule['after']}")
    return changes
