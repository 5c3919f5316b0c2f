"""prepaid statement: the credits of an organization in a month."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from cli.database import database_url
from cli.months import MonthOption, begun
from cli.output import AsJson, emit, emit_csv, run, table
from shared.counts import counted
from shared.db.pool import close, connect
from shared.organizations import service as organizations
from shared.spreadsheets import csv_text
from shared.statements import rules, service
from shared.statements.model import Line, Position, Statement

STATEMENT_SECONDS_MAX = 3600


def statement(
    organization: Annotated[str, typer.Argument(metavar="ORGANIZATION", help="Id or slug.")],
    month: MonthOption,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print an organization's credits in a month: opening, each reason for a change, closing."""
    now = datetime.now(UTC)
    wanted = begun(month, now)

    async def work() -> Statement:
        connection = await connect(
            database_url(),
            application_name="prepaid-cli",
            statement_seconds_max=STATEMENT_SECONDS_MAX,
        )
        try:
            owner = await organizations.find(connection, organization)
            return await service.statement(connection, owner.id, wanted, now=now)
        finally:
            await close(connection)

    found = run(work())
    if as_csv:
        emit_csv(csv_text(rules.csv_rows(found)))
    else:
        emit(_document(found), as_json=as_json, human=_human)


def _document(found: Statement) -> dict[str, Any]:
    return {
        "organizationId": str(found.organization_id),
        "month": str(found.month),
        "periodStart": found.month.start,
        "periodEnd": found.month.end,
        "complete": found.complete,
        "opening": _position(found.opening),
        **{str(line): total.amount for line, total in found.lines.items()},
        "closing": _position(found.closing),
        "transactions": found.transactions,
        "usedByCategory": [
            {
                "category": part.category,
                "amount": part.total.amount,
                "transactions": part.total.transactions,
                "isRest": part.is_rest,
            }
            for part in found.used
        ],
    }


def _position(position: Position) -> dict[str, Any]:
    return {
        "balance": position.balance,
        "changeSequence": position.seq,
        "hash": rules.hash_text(position),
    }


def _human(document: dict[str, Any]) -> str:
    rows = [
        ["opening", document["opening"]["balance"]],
        *([line, document[line]] for line in Line if document[line]),
        ["closing", document["closing"]["balance"]],
    ]
    used = [
        [
            rules.REST if part["isRest"] else part["category"] or rules.NO_CATEGORY,
            part["amount"],
            part["transactions"],
        ]
        for part in document["usedByCategory"]
    ]
    closing = document["closing"]
    until = "" if document["complete"] else ", until now"
    head = f"{document['month']}{until}: {counted(document['transactions'], 'transaction')}"
    if closing["hash"]:
        head += f", the last is row {closing['changeSequence']} with hash {closing['hash']}"
    blocks = [head, table(("line", "credits"), rows, empty="")]
    if used:
        blocks.append(table(("used by category", "credits", "transactions"), used, empty=""))
    return "\n\n".join(blocks)
