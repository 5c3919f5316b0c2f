"""prepaid privacy erase: erase personal data outside the ledger."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.actor import current_actor
from cli.database import database_url
from cli.output import AsJson, emit, run
from cli.reasons import RequiredReason
from shared.db.pool import close, connect
from shared.erasure import service as erasure
from shared.organizations import service as organizations

app = typer.Typer(no_args_is_help=True, help="Personal data outside the ledger.")


@app.callback()
def group() -> None:
    """Keep `erase` a subcommand."""


@app.command()
def erase(
    organization: Annotated[str, typer.Argument(metavar="ORGANIZATION", help="Id or slug.")],
    reason: RequiredReason,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Erase, count, and roll back.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Erase the personal data of a closed organization, for good. Ledger, ids and amounts stay.

    Run it with the DATABASE_URL of the owner: only the owner may change the audit log.
    """

    async def work() -> dict[str, Any]:
        connection = await connect(database_url(), application_name="prepaid-cli")
        try:
            whole = connection.transaction() if dry_run else None
            if whole is not None:
                await whole.start()
            try:
                owner = await organizations.find(connection, organization)
                done = await erasure.erase(
                    connection,
                    owner,
                    actor=await current_actor(connection),
                    reason=reason,
                )
            finally:
                if whole is not None:
                    await whole.rollback()
        finally:
            await close(connection)
        return {
            "organizationId": str(owner.id),
            "slug": owner.slug,
            "dryRun": dry_run,
            "changed": done.changed,
            "erased": dict(done.erased),
            "left": [
                {"table": table, "rows": rows, "reason": why}
                for table, (rows, why) in done.left.items()
            ],
        }

    emit(run(work()), as_json=as_json, human=_summary)


def _summary(document: dict[str, Any]) -> str:
    verb = "would erase" if document["dryRun"] else "erased"
    lines = [f"{verb} {rows} of {table}" for table, rows in document["erased"].items() if rows] or [
        "nothing to erase"
    ]
    lines += [f"left {one['rows']} of {one['table']}: {one['reason']}" for one in document["left"]]
    return "\n".join(lines)
