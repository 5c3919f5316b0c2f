"""Manual postings by command: the key, the posting and its audit entry in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer
from msgspec.structs import replace

from cli.actor import current_actor
from shared.access import service as audit
from shared.errors import ConflictError
from shared.ids import transaction_public_id
from shared.ledger import keys, posting_errors
from shared.ledger import service as ledger
from shared.ledger.model import (
    PostedTransaction,
    Posting,
    PostingStatus,
    RefusedPosting,
    TransactionType,
)

if TYPE_CHECKING:
    from shared.db.pool import Connection


def _key(text: str) -> str:
    if text.startswith(keys.RESERVED):
        raise typer.BadParameter("begins with a reserved prefix")
    return text


_HELP = "A key of your choice: with the same key, it is posted once, however often it is run."
Key = Annotated[str | None, typer.Option(parser=_key, metavar="TEXT", help=_HELP)]


def ledger_key(key: str | None, posting_id: UUID) -> str:
    """Return the operator's key, else one that is this posting's alone."""
    return key if key is not None else f"{keys.REQUEST}cli:{posting_id}"


async def post(
    connection: Connection,
    posting: Posting,
    action: str,
    *,
    reason: str,
    subject: UUID | None = None,
) -> PostedTransaction:
    """Post in the caller's transaction, with an audit entry; raise the error of a refusal."""
    (result,) = await ledger.post(connection, [replace(posting, description=reason)])
    if result.status is PostingStatus.CONFLICT and posting.type is TransactionType.VOID:
        raise ConflictError("This grant is void already.")
    if isinstance(result, RefusedPosting):
        raise posting_errors.posting_error(result)
    assert isinstance(result, PostedTransaction)  # noqa: S101 - the only other result
    if result.status is PostingStatus.POSTED:
        await audit.record(
            connection,
            actor=await current_actor(connection),
            action=action,
            subject=str(subject or result.id),
            organization_id=posting.organization_id,
            reason=reason,
            details={"transactions": [transaction_public_id(result.id)]},
        )
    return result
