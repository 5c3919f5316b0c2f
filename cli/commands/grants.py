"""prepaid grants: give, list, void; and prepaid adjust."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import typer

from cli import posting_keys
from cli.actor import current_actor
from cli.amounts import decimal
from cli.database import transaction
from cli.output import AsJson, cell, emit, run, table
from cli.posting_keys import Key
from cli.reasons import RequiredReason
from shared import manual_postings
from shared.counts import counted
from shared.errors import NotFoundError, ValidationError
from shared.ids import new_id, transaction_public_id
from shared.ledger import rules, store
from shared.ledger.model import (
    PostedTransaction,
    Posting,
    PostingStatus,
    SystemAccount,
    TransactionType,
)
from shared.organizations import service as organizations

app = typer.Typer(no_args_is_help=True, help="Grants: credits with a priority and an expiry.")

ROWS_MAX = 1_000
PRIORITY_DEFAULT = 50
SEQ_MAX = 2**63 - 1
COLUMNS = ("id", "amount", "remaining", "priority", "promotional", "expiresAt", "endedBy")

Reference = Annotated[str, typer.Argument(metavar="ORGANIZATION", help="Id or slug.")]


@app.command()
def give(
    organization: Reference,
    amount: Annotated[str, typer.Argument(help="An amount in credits.")],
    reason: RequiredReason,
    priority: Annotated[
        int, typer.Option(min=0, max=rules.PRIORITY_MAX, help="A lower one burns first.")
    ] = PRIORITY_DEFAULT,
    expires: Annotated[
        str | None, typer.Option(help="When it expires, such as 2031-01-31T00:00:00Z.")
    ] = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Give promotional credits. The reason is the note of the ledger row, too."""

    async def work() -> dict[str, Any]:
        async with transaction() as connection:
            owner = await organizations.find(connection, organization)
            posting_id = new_id()
            posting = Posting(
                organization_id=owner.id,
                id=posting_id,
                type=TransactionType.GRANT,
                counterparty=SystemAccount.PROMOTIONS,
                key=posting_keys.ledger_key(key, posting_id),
                amount=decimal("AMOUNT", amount),
                description=reason,
                priority=priority,
                promotional=True,
                expires_at=_time(expires),
            )
            result = await manual_postings.post(
                connection, posting, actor=await current_actor(connection), action="grants.create"
            )
            row = await store.find_grant(connection, owner.id, result.id)
        assert row is not None  # noqa: S101 - it was posted above
        return _grant(dict(row)) | {"replayed": result.status is PostingStatus.REPLAYED}

    emit(run(work()), as_json=as_json, human=_sentence)


@app.command("list")
def list_(
    organization: Reference,
    open_only: Annotated[bool, typer.Option("--open", help="Only with credits left.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=ROWS_MAX)] = 100,
    as_json: AsJson = False,
) -> None:
    """List the grants of an organization, newest first."""

    async def work() -> list[dict[str, Any]]:
        async with transaction() as connection:
            owner = await organizations.find(connection, organization)
            rows = await store.grants(
                connection,
                owner.id,
                before=SEQ_MAX,
                is_open=True if open_only else None,
                limit=limit,
            )
        return [_grant(dict(row)) for row in rows]

    emit(
        {"grants": run(work())},
        as_json=as_json,
        human=lambda document: table(
            COLUMNS, [[row[c] for c in COLUMNS] for row in document["grants"]], empty="no grants"
        ),
    )


@app.command()
def void(
    organization: Reference,
    grant: Annotated[UUID, typer.Argument(help="The id of the grant.")],
    reason: RequiredReason,
    as_json: AsJson = False,
) -> None:
    """Take back what is left of a grant that was given; a purchased one is refunded at Stripe."""

    async def work() -> dict[str, Any]:
        async with transaction() as connection:
            owner = await organizations.find(connection, organization)
            row = await store.find_grant(connection, owner.id, grant)
            if row is None:
                raise NotFoundError(f"{owner.slug} has no grant {grant}.")
            if row["ended_by"] == "void":
                return _grant(dict(row)) | {"replayed": True}
            posting = manual_postings.void_posting(row, new_id(), description=reason)
            result = await manual_postings.post(
                connection,
                posting,
                actor=await current_actor(connection),
                action="grants.void",
                subject=grant,
            )
            after = await store.find_grant(connection, owner.id, grant)
        assert after is not None  # noqa: S101 - grants are never deleted
        return _grant(dict(after)) | {"replayed": result.status is PostingStatus.REPLAYED}

    emit(run(work()), as_json=as_json, human=_sentence)


def adjust(
    organization: Reference,
    amount: Annotated[str, typer.Argument(help="Credits to add, or below 0 to take.")],
    reason: RequiredReason,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Correct a balance, up or down; an amount below 0 follows --: adjust acme --reason … -- -5."""

    async def work() -> dict[str, Any]:
        async with transaction() as connection:
            owner = await organizations.find(connection, organization)
            posting_id = new_id()
            posting = Posting(
                organization_id=owner.id,
                id=posting_id,
                type=TransactionType.ADJUSTMENT,
                counterparty=SystemAccount.ADJUSTMENTS,
                key=posting_keys.ledger_key(key, posting_id),
                amount=decimal("AMOUNT", amount),
                description=reason,
            )
            result = await manual_postings.post(
                connection,
                posting,
                actor=await current_actor(connection),
                action="transactions.post",
                subject=owner.id,
            )
        return _adjustment(result)

    emit(
        run(work()),
        as_json=as_json,
        human=lambda made: (
            f"{made['transactionId']}: {counted(made['amount'], 'credit')}, balance"
            f" {cell(made['balanceAfter'])}" + _again(made)
        ),
    )


def _adjustment(result: PostedTransaction) -> dict[str, Any]:
    return {
        "transactionId": transaction_public_id(result.id),
        "organizationId": str(result.organization_id),
        "amount": result.amount,
        "balanceAfter": result.balance_after,
        "replayed": result.status is PostingStatus.REPLAYED,
    }


def _grant(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "organizationId": str(row["organization_id"]),
        "transactionId": transaction_public_id(row["transaction_id"]),
        "amount": row["original"],
        "remaining": row["remaining"],
        "priority": row["priority"],
        "promotional": row["promotional"],
        "expiresAt": row["expires_at"],
        "endedAt": row["ended_at"],
        "endedBy": row["ended_by"],
        "paymentIntentId": row["payment_intent_id"],
        "createdAt": row["created_at"],
    }


def _sentence(grant: dict[str, Any]) -> str:
    return (
        f"grant {grant['id']}: {cell(grant['remaining'])} of"
        f" {counted(grant['amount'], 'credit')} left" + _again(grant)
    )


def _again(document: dict[str, Any]) -> str:
    return " (posted before; nothing was posted again)" if document["replayed"] else ""


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise ValidationError("--expires must be a time such as 2031-01-31T00:00:00Z")
    return time
