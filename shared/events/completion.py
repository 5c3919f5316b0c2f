"""Payment of an open checkout without a browser: for development, with a test key only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from shared.errors import NotFoundError, StripeFailedError
from shared.events import payments
from shared.events.model import ApplyContext
from shared.ledger.model import PostedTransaction
from shared.organizations import service as organizations
from shared.organizations.model import Organization
from shared.payments import sales, store
from shared.payments.checkout import OpenPurchase, pay_with_test_card
from shared.payments.model import PaymentCaptured

if TYPE_CHECKING:
    from shared.db.pool import Connections
    from shared.payments.client import Stripe

SUCCEEDED = "succeeded"


@dataclass(frozen=True, slots=True)
class Completed:
    """A paid purchase, its payment, and the transaction that was posted."""

    purchase_id: UUID
    checkout_session_id: str | None
    payment_intent_id: str
    result: PostedTransaction


async def complete_purchase(
    pool: Connections,
    client: Stripe,
    organization: Organization,
    *,
    session_id: str | None,
    context: ApplyContext,
) -> Completed:
    """Pay an organization's open checkout with Stripe's test card, and credit it.

    The payment's webhook posts the same credit under the same key: the first of the two wins.
    The session is closed, so that it cannot be paid again. Raises NotFoundError if no checkout is
    open, and StripeFailedError if Stripe fails or the payment has not succeeded yet: if it does
    later, its webhook credits it. The caller has verified that the key is a test key.
    """
    async with pool.acquire() as connection:
        await organizations.check_open(connection, organization.id)
        purchase = await store.open_purchase_of(connection, organization.id, session_id)
    if purchase is None:
        raise NotFoundError("There is no open checkout of this organization.")
    paid = await pay_with_test_card(
        pool,
        client,
        organization,
        OpenPurchase(
            purchase["id"],
            purchase["checkout_session_id"],
            purchase["amount_minor"],
            purchase["currency"],
        ),
    )
    if paid.status != SUCCEEDED:
        raise StripeFailedError(f"The payment {paid.id} has not succeeded: it is {paid.status}.")
    payment = sales.from_intent(paid)
    async with pool.acquire() as connection, connection.transaction():
        credited = (await payments.credit(connection, [payment], context))[payment]
    if not isinstance(credited, PostedTransaction):
        raise StripeFailedError(f"The payment {paid.id} could not be credited: {credited}.")
    return _completed(purchase, payment, credited)


def _completed(purchase: Any, payment: PaymentCaptured, result: PostedTransaction) -> Completed:
    return Completed(
        purchase["id"], purchase["checkout_session_id"], payment.payment_intent_id, result
    )
