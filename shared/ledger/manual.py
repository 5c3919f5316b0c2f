"""Manual postings that the API and the console share."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from shared.errors import ConflictError
from shared.ledger import keys
from shared.ledger.model import Posting, SystemAccount, TransactionType

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    import asyncpg


def void(
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
