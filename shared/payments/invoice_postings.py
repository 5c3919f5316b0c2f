"""The ledger rows of a paid invoice. Pure.

The first row has the invoice's key, under which older releases posted all credits, and the same
digest, so that a replayed event matches it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from uuid import UUID

from msgspec.structs import replace

from shared.ledger import keys
from shared.ledger.model import Posting, SystemAccount, TransactionType
from shared.ledger.rules import digest
from shared.payments.invoice_objects import Invoice
from shared.payments.invoices import Portion, Share
from shared.payments.objects import reference_id

_SUBSCRIPTION = "Subscription"


def key(invoice: Invoice) -> str:
    """Return the idempotency key of the first row."""
    return f"{keys.INVOICE}{invoice.id}"


def invoice_of(idempotency_key: str) -> str | None:
    """Return the invoice id in an idempotency key, if there is one."""
    if not idempotency_key.startswith(keys.INVOICE):
        return None
    return idempotency_key.removeprefix(keys.INVOICE).partition(":")[0]


def granted(
    invoice: Invoice, organization_id: UUID, shares: Sequence[Share], make_id: Callable[[], UUID]
) -> list[Posting]:
    """Return a posting for each share: the first under the invoice's key, the others numbered."""
    total = sum((share.credits for share in shares), Decimal(0))
    whole = Posting(
        organization_id=organization_id,
        id=make_id(),
        type=TransactionType.PURCHASE,
        amount=total,
        counterparty=SystemAccount.STRIPE,
        key=key(invoice),
        description=_SUBSCRIPTION,
    )
    rows = [
        replace(
            whole,
            amount=share.credits,
            description=_description(invoice),
            payment_intent_id=share.payment_intent_id,
            expires_at=share.expires_at,
        )
        for share in shares
    ]
    return [
        replace(rows[0], digest=digest(whole)),
        *(
            replace(row, id=make_id(), key=f"{row.key}:{number}")
            for number, row in enumerate(rows[1:], start=2)
        ),
    ]


def _description(invoice: Invoice) -> str:
    return _SUBSCRIPTION if reference_id(invoice.details.subscription) else "Invoice"


def taken_back(
    invoice: Invoice, organization_id: UUID, portion: Portion, transaction_id: UUID
) -> Posting:
    """Return the posting of an invoice with a negative total, such as after a downgrade."""
    return Posting(
        organization_id=organization_id,
        id=transaction_id,
        type=TransactionType.ADJUSTMENT,
        amount=portion.credits,
        counterparty=SystemAccount.STRIPE,
        key=key(invoice),
        description="Subscription change",
        may_overdraw=True,
    )
