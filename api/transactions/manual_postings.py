"""Manual postings: grants, bonuses, adjustments and voids, each with an audit entry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from api.framework.operation import Call
from shared.ids import transaction_public_id
from shared.ledger import service as ledger
from shared.ledger.model import PostedTransaction, Posting, PostingResult, PostingStatus
from shared.organizations.model import Organization

if TYPE_CHECKING:
    from shared.db.pool import Connection


async def post(
    call: Call,
    posting: Posting,
    action: str,
    *,
    organization: Organization,
    subject: UUID | None = None,
) -> PostingResult:
    """Post and write the audit entry in one transaction.

    Manual postings do not use the group commit of usage: few come at once.
    """
    async with call.transaction() as connection:
        (result,) = await ledger.post(connection, [posting], now=call.now)
        if isinstance(result, PostedTransaction) and result.status is PostingStatus.POSTED:
            await record(
                call, connection, action, [result], organization=organization, subject=subject
            )
    return result


async def record(
    call: Call,
    connection: Connection,
    action: str,
    posted: Sequence[PostedTransaction],
    *,
    organization: Organization,
    subject: UUID | None = None,
) -> None:
    """Write one audit entry for postings, in the transaction that posted them."""
    names = [transaction_public_id(result.id) for result in posted]
    await call.record(
        connection,
        action,
        organization=organization,
        subject=subject,
        details={"transactions": names},
    )
