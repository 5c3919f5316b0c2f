"""prepaid finance close: deferred and recognised revenue of a month."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from cli.actor import current_actor
from cli.database import database_url
from cli.months import MonthArgument, begun
from cli.output import AsJson, emit, emit_csv, run, table
from shared.counts import counted
from shared.db.pool import close as close_connection
from shared.db.pool import connect
from shared.finance import rules, service
from shared.finance.model import Credits, DeferredRevenue, StoredClose, as_document
from shared.spreadsheets import csv_text

app = typer.Typer(no_args_is_help=True, help="The books: close a month.")
STATEMENT_SECONDS_MAX = 3600


@app.callback()
def group() -> None:
    """Keep `close` a subcommand."""


@app.command()
def close(
    month: MonthArgument,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: AsJson = False,
) -> None:
    """Close a month that has ended: deferred, recognised and refunded revenue, and breakage.

    The first run computes and stores it; later runs print the same.
    """
    now = datetime.now(UTC)
    wanted = begun(month, now)

    async def work() -> StoredClose:
        connection = await connect(
            database_url(),
            application_name="prepaid-finance",
            statement_seconds_max=STATEMENT_SECONDS_MAX,
        )
        try:
            return await service.close(
                connection,
                wanted,
                now=now,
                actor=await current_actor(connection),
                progress=_progress,
            )
        finally:
            await close_connection(connection)

    stored = run(work())
    if as_csv:
        emit_csv(csv_text(rules.csv_rows(stored.close, stored.sha256)))
    else:
        document = {**as_document(stored.close), "hash": stored.sha256.hex()}
        emit(document, as_json=as_json, human=_human)


def _progress(organizations: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{counted(organizations, 'organization')} …", end="", file=sys.stderr, flush=True)


def _human(document: dict[str, Any]) -> str:
    parts = document["currencies"]
    money_lines, lines = DeferredRevenue.__struct_fields__, Credits.__struct_fields__
    money = [
        [p["currency"].upper(), *(p["deferredRevenue"][n] for n in money_lines)] for p in parts
    ]
    credits_ = [
        [p["currency"].upper(), kind, *(p[kind][n] for n in lines)]
        for p in parts
        for kind in ("paid", "promotional")
    ]
    accounts = [[name, amount] for name, amount in document["accounts"].items()]
    head = (
        f"{document['month']}, closed at {document['closedAt']:%Y-%m-%d %H:%M} UTC: "
        f"{counted(document['organizations'], 'organization')},"
        f" {counted(document['transactions'], 'transaction')}\n"
        f"hash {document['hash']}"
    )
    return "\n\n".join(
        [
            head,
            table(("deferred revenue", *money_lines), money, empty="no currency"),
            table(("credits", "kind", *lines), credits_, empty="no credits"),
            table(("account", "change in credits"), accounts, empty=""),
        ]
    )
