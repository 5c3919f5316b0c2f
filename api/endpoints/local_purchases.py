"""Completing a checkout without a browser, in test mode."""

from __future__ import annotations

from uuid import UUID

from api.endpoints.purchases import STRIPE_SECONDS_MAX
from api.framework import fields
from api.framework.fields import Name, Number, Request, Response
from api.framework.operation import Call, Operation, Reply, Retry
from shared.access.model import Scope
from shared.errors import NotFoundError, PermissionDeniedError, StripeFailedError
from shared.events.completion import complete_purchase
from shared.events.model import ApplyContext
from shared.ids import transaction_public_id
from shared.payments.model import SaleTerms


class CompleteRequest(Request):
    """Which checkout; the newest open one unless said."""

    checkout_id: Name | None = None


class CompletedPurchaseResponse(Response):
    """The purchase that was paid, and the row of the ledger that credited it."""

    purchase_id: UUID
    checkout_id: str | None
    payment_intent_id: str
    transaction_id: str
    amount: Number
    balance_after: Number


async def complete_local(call: Call) -> Reply:
    """Pay an open checkout with Stripe's test card, without a browser. Test keys alone.

    The newest one, unless `checkoutId` names another: name it where a second try must be the same.
    What the payment's webhook would post is posted now, once whichever is first. 403 on a live key.
    """
    if call.api.settings.livemode:
        raise PermissionDeniedError("This is for test keys; a live one takes real money alone.")
    body: CompleteRequest = call.body
    done = await complete_purchase(
        call.api.pool,
        call.api.stripe,
        call.owner,
        session_id=body.checkout_id,
        context=ApplyContext(SaleTerms.of(call.api.settings), call.api.make_id, call.now),
    )
    call.api.organizations.forget(call.owner)
    result = done.result
    return Reply(
        CompletedPurchaseResponse(
            purchase_id=done.purchase_id,
            checkout_id=done.checkout_session_id,
            payment_intent_id=done.payment_intent_id,
            transaction_id=transaction_public_id(result.id),
            amount=fields.format_number(result.amount),
            balance_after=fields.format_number(result.balance_after),
        )
    )


OPERATIONS = (
    Operation(
        name="completeLocal",
        tag="Purchases",
        method="POST",
        path="/v1/billing/{organizationId}/dev/complete-local",
        handle=complete_local,
        body=CompleteRequest,
        response=CompletedPurchaseResponse,
        scope=Scope.PURCHASES,
        retry=Retry.RESUMED,
        errors=(NotFoundError, PermissionDeniedError, StripeFailedError),
        seconds_max=STRIPE_SECONDS_MAX,
        cost=10,
        example={},
    ),
)
