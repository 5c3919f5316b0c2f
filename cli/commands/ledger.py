"""prepaid ledger: verify, explain, anchor."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.database import database_url, transaction
from cli.output import EXIT_REFUSED, AsJson, emit, run, table
from shared.counts import counted
from shared.db.pool import connect
from shared.errors import InvalidRequestError, NotFoundError
from shared.ids import parse_id, transaction_public_id
from shared.ledger import service, store, verification
from shared.ledger.verification import Verification
from shared.money import plain
from shared.organizations import service as organizations
from shared.pricing.record import PricingRecord, read_record
from shared.pricing.rules import unit_name

app = typer.Typer(no_args_is_help=True, help="The ledger: verify it, explain it, anchor it.")
USES_MAX = 1000
STATEMENT_SECONDS_MAX = 3600


@app.command()
def verify(
    organization: Annotated[
        str | None, typer.Option(help="Only this organization (id or slug).")
    ] = None,
    full: Annotated[
        bool,
        typer.Option(
            "--full/--incremental",
            help="Verify all rows, or those since the checkpoints of the last verification.",
        ),
    ] = True,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the last --full run that was interrupted.")
    ] = False,
    anchor_file: Annotated[
        Path | None,
        typer.Option(
            "--anchor",
            dir_okay=False,
            help="Check only the heads in a file of `ledger anchor --heads`.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Recompute every hash and balance; exit code 1 if there is a mismatch."""
    if anchor_file is not None:
        _verify_anchor(anchor_file, as_json=as_json)
        return
    if resume and (organization is not None or not full):
        raise typer.BadParameter("--resume continues a --full run of all organizations")
    if organization is not None and not full:
        raise typer.BadParameter("--organization verifies all rows: leave out --incremental")

    async def work() -> Verification:
        connection = await connect(
            database_url(),
            application_name="prepaid-verify",
            statement_seconds_max=STATEMENT_SECONDS_MAX,
        )
        try:
            only = None
            if organization is not None:
                only = (await organizations.find(connection, organization)).id
            return await verification.verify(
                connection, only, whole=full, resume=resume, progress=_progress
            )
        finally:
            await connection.close()

    document = run(work())
    emit(document, as_json=as_json, human=_verify_human)
    if not document["ok"]:
        raise typer.Exit(EXIT_REFUSED)


def _verify_anchor(file: Path, *, as_json: bool) -> None:
    async def work() -> dict[str, Any]:
        connection = await connect(database_url(), application_name="prepaid-verify")
        try:
            with file.open(encoding="utf-8") as lines:
                root, problems = await verification.verify_heads(connection, lines)
        except (FileNotFoundError, PermissionError, UnicodeDecodeError) as error:
            raise InvalidRequestError(f"--anchor: {file} cannot be read ({error}).") from None
        finally:
            await connection.close()
        return {"ok": not problems, **root, "problems": problems}

    document = run(work())
    emit(
        document,
        as_json=as_json,
        human=lambda document: f"{document['root']}\n{_verify_human(document)}",
    )
    if not document["ok"]:
        raise typer.Exit(EXIT_REFUSED)


def _progress(transactions: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{counted(transactions, 'transaction')} …", end="", file=sys.stderr, flush=True)


def _verify_human(document: dict[str, Any]) -> str:
    counts = (
        f"{counted(document['transactions'], 'transaction')}"
        f" of {counted(document['organizations'], 'organization')}"
    )
    if document["ok"]:
        return f"ok: {counts}"
    columns = ("organizationId", "seq", "transactionId", "problem")
    rows = [[problem[column] for column in columns] for problem in document["problems"]]
    return f"NOT ok: {counts}\n{table(columns, rows, empty='')}"


@app.command()
def explain(
    transaction_id: Annotated[str, typer.Argument(help="ct_… or UUID.")],
    limit: Annotated[
        int, typer.Option(min=1, max=USES_MAX, help="The number of debits.")
    ] = USES_MAX,
    after: Annotated[int, typer.Option(min=0, help="Only debits after this row (seq).")] = 0,
    as_json: AsJson = False,
) -> None:
    """Show which grants paid for a debit, or which debits a credit paid for."""

    async def work() -> dict[str, Any]:
        wanted = parse_id(transaction_id)
        async with transaction() as connection:
            row = await store.find(connection, wanted) if wanted else None
            if row is None:
                raise NotFoundError(f"There is no transaction {transaction_id!r}.")
            sources = await service.explain(connection, row)
            uses = (
                await store.uses(
                    connection, row["organization_id"], row["grant_id"], after=after, limit=limit
                )
                if row["amount"] > 0
                else []
            )
        return {
            "id": transaction_public_id(row["id"]),
            "organizationId": str(row["organization_id"]),
            "seq": row["seq"],
            "type": row["type"],
            "amount": row["amount"],
            "balanceAfter": row["balance_after"],
            "createdAt": row["created_at"],
            "sources": [
                {
                    "amount": source.amount,
                    "grantId": str(source.grant_id) if source.grant_id else None,
                    "grantType": source.grant_type,
                    "paymentIntentId": source.payment_intent_id,
                    "chargeId": source.charge_id,
                    "receiptUrl": source.receipt_url,
                }
                for source in sources
            ],
            "uses": [
                {
                    "amount": use.amount,
                    "id": transaction_public_id(use.transaction_id),
                    "seq": use.seq,
                    "type": use.type,
                    "createdAt": use.created_at,
                }
                for use in uses
            ],
            "pricing": read_record(row["metadata"]),
        }

    emit(run(work()), as_json=as_json, human=_explain_human)


def _explain_human(document: dict[str, Any]) -> str:
    amount = plain(document["amount"])
    head = f"{document['id']}  {document['type']} {amount}, row {document['seq']} of"
    lines = [
        f"{head} {document['organizationId']}, balance after it {plain(document['balanceAfter'])}"
    ]
    for source in document["sources"]:
        origin = source["grantType"] or "no grant: debt"
        names = ("grantId", "paymentIntentId", "chargeId", "receiptUrl")
        ids = " ".join(source[name] for name in names if source[name])
        lines.append(f"  {plain(source['amount'])} from {origin} {ids}")
    lines += [
        f"  {plain(use['amount'])} paid for {use['id']} ({use['type']}, row {use['seq']})"
        for use in document["uses"]
    ]
    if document["pricing"] is not None:
        lines += _pricing_lines(document["pricing"])
    return "\n".join(line.rstrip() for line in lines)


def _pricing_lines(pricing: PricingRecord) -> list[str]:
    lines = [f"  priced by {pricing.book}:{pricing.version} as {pricing.name}"]
    for line in pricing.lines:
        unit = "" if line.per == 1 else f" / {unit_name(line.per)}"
        lines.append(
            f"    {line.measure} {line.quantity} * {line.unit_price}{unit} = {line.amount}"
        )
    steps = [
        f"{name} {value}{unit}"
        for name, value, unit in (
            ("markup", pricing.markup, "%"),
            ("discount", pricing.discount, "%"),
            ("minimum", pricing.minimum, ""),
            ("total", pricing.total, ""),
        )
        if value is not None
    ]
    return [*lines, f"    {', '.join(steps)}"]


@app.command()
def anchor(
    heads: Annotated[
        Path | None,
        typer.Option(
            "--heads",
            dir_okay=False,
            help="Write the heads to a file, for `ledger verify --anchor`.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print a root hash over the heads of all ledgers, to store outside the database.

    Together with `verify`, which checks every row against its head, it proves that no earlier row
    has changed.
    """

    async def work() -> dict[str, Any]:
        connection = await connect(database_url(), application_name="prepaid-anchor")
        try:
            if heads is None:
                return dict(await verification.anchor(connection))
            with heads.open("w", encoding="utf-8") as file:
                return dict(await verification.anchor(connection, file.write))
        finally:
            await connection.close()

    emit(
        run(work()),
        as_json=as_json,
        human=lambda document: (
            f"{document['root']}  {counted(document['organizations'], 'organization')}, "
            f"{counted(document['transactions'], 'transaction')}"
        ),
    )
