"""The one place where a payment becomes credits: bound to its organization, then posted.

A payment is bound once, by the first of its Checkout Session's event, its own event, the response
to a charge, and a refund. Its ledger key is derived from the PaymentIntent, so that it is posted
once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from shared.errors import EventError, PaymentMismatchError
from shared.inbox import store as inbox
from shared.ledger import keys
from shared.ledger import service as ledger
from shared.ledger.model import (
    PostedTransaction,
    Posting,
    PostingResult,
    PostingStatus,
    SystemAccount,
)
from shared.ledger.rules import request_digest
from shared.payments import store
from shared.payments.model import BoundPayment, Sale

if TYPE_CHECKING:
    from shared.db.pool import Connection


class PostingRefusedError(EventError):
    """The ledger refused the posting."""


async def credit(
    connection: Connection,
    sales: Sequence[Sale],
    make_id: Callable[[], UUID],
    *,
    lock_payments: bool = False,
) -> list[PostedTransaction | EventError]:
    """Credit each payment once, in the caller's transaction; return the results in order.

    A payment that was bound before is credited as it was bound then. Its result is `replayed` if
    the ledger has it already, and PaymentMismatchError if this sale has another amount.
    `lock_payments`: lock payments that others bound, because the caller applies reversals next, and
    a reversal locks the payment before its account.
    """
    if not sales:
        return []
    bindings = await store.bind_payments(connection, sales)
    if lock_payments:
        for name in sorted({sale.payment_intent_id for sale in sales}):
            await store.lock_payment(connection, name)
    if earlier := {sale.payment_intent_id for sale in sales} - bindings.keys():
        bindings |= await store.bound_payments(connection, sorted(earlier))
    postings = [_posting(sale, bindings[sale.payment_intent_id], make_id()) for sale in sales]
    accepted = [posting for posting in postings if isinstance(posting, Posting)]
    results = iter(await ledger.post(connection, accepted))
    # Events that arrived before their payment was bound can be applied now.
    await inbox.reopen_waiting(connection, list(bindings))
    return [
        on_the_ledger(next(results)) if isinstance(posting, Posting) else posting
        for posting in postings
    ]


def on_the_ledger(result: PostingResult) -> PostedTransaction | EventError:
    """Return the posted transaction, or the error if the ledger refused it."""
    if isinstance(result, PostedTransaction):
        return result
    if result.status is PostingStatus.CLOSED:
        return PostingRefusedError(
            f"Organization {result.organization_id} is closed. Reopen it (prepaid orgs reopen) and"
            " replay this event, or refund the payment at Stripe and discard the event."
        )
    return PostingRefusedError(
        f"The ledger of organization {result.organization_id} refused: {result.status}."
    )


def _posting(sale: Sale, bound: BoundPayment, transaction_id: UUID) -> Posting | EventError:
    """Return the posting of a payment; it is the same for each of the payment's events."""
    if (bound.amount_minor, bound.currency) != (sale.gross_minor, sale.currency):
        return PaymentMismatchError(
            f"{sale.payment_intent_id} was {bound.amount_minor} {bound.currency}, "
            f"this event says {sale.gross_minor} {sale.currency}."
        )
    key = f"{keys.PAYMENT}{sale.payment_intent_id}"
    return Posting(
        organization_id=bound.organization_id,
        id=transaction_id,
        type=sale.type,
        amount=bound.credits,
        counterparty=SystemAccount.STRIPE,
        key=key,
        digest=request_digest(key, bound.amount_minor, bound.currency),
        description=sale.description,
        payment_intent_id=sale.payment_intent_id,
        expires_at=sale.expires_at,
    )
