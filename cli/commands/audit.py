"""prepaid audit: list."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from cli.database import transaction
from cli.output import AsJson, emit, run, table
from cli.paging import cursor as cursor_after
from cli.paging import moment, read_cursor
from shared.access import service
from shared.organizations import service as organizations

if TYPE_CHECKING:
    import asyncpg

app = typer.Typer(no_args_is_help=True, help="The audit log: who did what, to what, and why.")
ENTRIES_MAX = 1_000
COLUMNS = ("at", "actor", "action", "subject", "organizationId", "requestId", "reason")


@app.callback()
def _group() -> None:
    """Keep `list` a command of its own."""


@app.command("list")
def list_(
    organization: Annotated[
        str | None, typer.Option(help="Only entries of this organization (id or slug).")
    ] = None,
    actor: Annotated[
        str | None, typer.Option(help="Only entries of key:NAME, session:NAME or cli:USER@ROLE.")
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            parser=moment, metavar="D", help="Only entries since then: 30m, 24h, 7d or ISO 8601."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=ENTRIES_MAX)] = 50,
    cursor: Annotated[str | None, typer.Option(help="The nextCursor of the previous page.")] = None,
    as_json: AsJson = False,
) -> None:
    """List entries of the audit log, newest first."""
    after = _after(cursor) if cursor else None

    async def work() -> dict[str, Any]:
        async with transaction() as connection:
            owner = None
            if organization is not None:
                owner = await organizations.find(connection, organization)
            rows = await service.audit_entries(
                connection,
                organization_id=owner.id if owner else None,
                actor=actor,
                since=since,
                after=after,
                limit=limit + 1,
            )
        page = rows[:limit]
        more = len(rows) > limit
        return {
            "entries": [_public(row) for row in page],
            "nextCursor": cursor_after(page[-1]["at"], str(page[-1]["id"])) if more else None,
        }

    emit(
        run(work()),
        as_json=as_json,
        human=lambda document: table(
            COLUMNS, [[row[c] for c in COLUMNS] for row in document["entries"]], empty="no entries"
        ),
    )


def _after(cursor: str) -> tuple[datetime, UUID]:
    at, entry_id = read_cursor(cursor)
    try:
        return at, UUID(entry_id)
    except ValueError:
        raise typer.BadParameter("is not a cursor of this command") from None


def _public(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "at": row["at"],
        "actor": row["actor"],
        "keyId": str(row["key_id"]) if row["key_id"] else None,
        "requestId": row["request_id"],
        "action": row["action"],
        "subject": row["subject"],
        "organizationId": str(row["organization_id"]) if row["organization_id"] else None,
        "reason": row["reason"],
        "details": row["details"],
    }
