"""prepaid messages replay: send messages again, preview that, or finish an interrupted replay."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import UUID

import typer

from cli.actor import current_actor
from cli.commands.event_replay import Rate, Resume, StopAfter
from cli.commands.messages import (
    Endpoint,
    OrganizationOf,
    Since,
    State,
    Type,
    message_id_of,
    of_organization,
)
from cli.database import database_url
from cli.output import EXIT_REFUSED, AsJson, emit, run
from cli.reasons import Reason
from shared.db.pool import create_pool
from shared.outbound.model import MessageFilter, MessageState
from shared.replay.messages import MessageReplayer, MessageReplayReport
from shared.replay.model import BatchState, ReplayOptions

Ids = Annotated[list[UUID] | None, typer.Argument(metavar="[ID…]", parser=message_id_of)]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print what would be sent again, and change nothing.")
]


def register(app: typer.Typer) -> None:
    """Add the command to its group."""
    app.command()(replay)


def replay(  # noqa: PLR0913, PLR0917 - an argument for each option
    ids: Ids = None,
    state: State = None,
    message_type: Type = None,
    endpoint: Endpoint = None,
    organization: OrganizationOf = None,
    since: Since = None,
    dry_run: DryRun = False,
    rate: Rate = None,
    stop_after: StopAfter = None,
    resume: Resume = None,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Send messages again: the named ones, or all that match the filters (dead by default).

    A worker sends them. A receiver recognizes a duplicate by its webhook-id.
    """
    filters = (state, message_type, endpoint, organization, since)
    is_filtered = any(value is not None for value in filters)
    if resume is not None:
        others = (rate, stop_after, reason)
        if ids or is_filtered or dry_run or any(value is not None for value in others):
            raise typer.BadParameter("--resume finishes a replay as it was started: name no more")
        report = run(_resume(resume))
    elif not ids and not is_filtered:
        raise typer.BadParameter("name message ids, or select messages, such as --state dead")
    else:
        wanted = MessageFilter(
            state=state if ids or state else MessageState.DEAD,
            type=message_type,
            since=since,
            endpoint_id=endpoint,
        )
        how = ReplayOptions(rate=rate, stop_after=stop_after)
        work = _replay(ids or [], wanted, organization, how, dry_run=dry_run, reason=reason)
        report = run(work)
    emit(report, as_json=as_json, human=_human)
    if report["failed"] or report["state"] != BatchState.FINISHED:
        raise typer.Exit(EXIT_REFUSED)


async def _replay(
    ids: list[UUID],
    wanted: MessageFilter,
    organization: str | None,
    options: ReplayOptions,
    *,
    dry_run: bool,
    reason: str | None,
) -> MessageReplayReport:
    async with _replayer() as (replayer, actor):
        async with replayer.pool.acquire() as connection:
            wanted = await of_organization(connection, wanted, organization)
        selection = ids or wanted
        if dry_run:
            return await replayer.preview(selection, only=wanted)
        return await replayer.replay(
            selection, only=wanted, actor=actor, reason=reason, options=options
        )


async def _resume(batch_id: UUID) -> MessageReplayReport:
    async with _replayer() as (replayer, actor):
        return await replayer.resume(batch_id, actor=actor)


@asynccontextmanager
async def _replayer() -> AsyncIterator[tuple[MessageReplayer, str]]:
    async with create_pool(database_url(), size=1, application_name="prepaid-cli") as pool:
        async with pool.acquire() as connection:
            actor = await current_actor(connection)
        yield MessageReplayer(pool), actor


def _human(report: dict[str, Any]) -> str:
    name = "dry run" if report["dryRun"] else f"batch {report['batchId']}"
    verb = "would" if report["dryRun"] else "will"
    lines = [f"{name}: {report['applied']} {verb} be sent again"]
    if report["noop"] or report["failed"]:
        lines[0] += f", {report['noop']} noop, {report['failed']} failed"
    lines += [f"  {failure['id']}: {failure['error']}" for failure in report["failures"]]
    if (more := report["failed"] - len(report["failures"])) > 0:
        lines.append(f"  and {more} more failures")
    lines += report["replayed"]
    if report["state"] == BatchState.STOPPED:
        lines.append(f"stopped; continue with prepaid messages replay --resume {report['batchId']}")
    return "\n".join(lines)
