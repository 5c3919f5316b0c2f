"""Manual postings: what an operator posts, each with an audit entry."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from shared.access import service as audit
from shared.access.model import Actor
from shared.errors import ConflictError
from shared.ids import transaction_public_id
from shared.ledger import keys, posting_errors
from shared.ledger import service as ledger
from shared.ledger.model import (
    PostedTransaction,
    Posting,
    PostingStatus,
    RefusedPosting,
    SystemAccount,
    TransactionType,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import Any

    import asyncpg

    from shared.db.pool import Connection


async def post(
    connection: Connection,
    posting: Posting,
    *,
    actor: Actor | str,
    action: str,
    subject: UUID | None = None,
    now: datetime | None = None,
) -> PostedTransaction:
    """Post in the caller's transaction, with an audit entry whose reason is the row's description.

    `subject`: what the entry is about; without one the new transaction. A repeated posting is
    `replayed`, and has its entry already. Raises the error of a refusal.
    """
    (result,) = await ledger.post(connection, [posting], now=now)
    if result.status is PostingStatus.CONFLICT and posting.type is TransactionType.VOID:
        raise ConflictError("This grant is void already.")
    if isinstance(result, RefusedPosting):
        raise posting_errors.posting_error(result)
    assert isinstance(result, PostedTransaction)  # noqa: S101 - the only other result
    if result.status is PostingStatus.POSTED:
        await audit.record(
            connection,
            actor=actor,
            action=action,
            subject=str(subject or result.id),
            organization_id=posting.organization_id,
            reason=posting.description,
            details={"transactions": [transaction_public_id(result.id)]},
        )
    return result


def void_posting(
    grant: Mapping[str, Any] | asyncpg.Record, posting_id: UUID, *, description: str | None
) -> Posting:
    """Return the posting that takes back what is left of a grant; a grant is voided once.

    Raises ConflictError for a purchased grant: the ledger itself would void it, and a refund of the
    payment would then take the same credits a second time.
    """
    if grant["payment_intent_id"] is not None:
        raise ConflictError(
            "This grant was purchased. Refund its payment at Stripe, which takes the credits back."
        )
    return Posting(
        organization_id=grant["organization_id"],
        id=posting_id,
        type=TransactionType.VOID,
        counterparty=SystemAccount.PROMOTIONS,
        key=f"{keys.GRANT}{grant['id']}:void",
        grant_id=grant["id"],
        description=description,
    )
