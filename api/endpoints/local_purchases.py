"""Completing a checkout without a browser, in test mode."""

from __future__ import annotations

from uuid import UUID

from api.endpoints.purchases import STRIPE_SECONDS_MAX
from api.framework import fields
from api.framework.fields import Name, Number, Request, Response
from api.framework.operation import Call, Operation, Reply, Retry
from shared.access.model import Scope
from shared.errors import (
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    StripeFailedError,
)
from shared.events.completion import complete_purchase
from shared.events.model import ApplyContext
from shared.ids import transaction_public_id
from shared.payments.model import SaleTerms


class CompleteRequest(Request):
    """The checkout to pay; the newest open one by default."""

    checkout_id: Name | None = None


class CompletedPurchaseResponse(Response):
    """The paid purchase, and the ledger row that credited it."""

    purchase_id: UUID
    checkout_id: str | None
    payment_intent_id: str
    transaction_id: str
    amount: Number
    balance_after: Number


async def complete_local(call: Call) -> Reply:
    """Pay an open checkout with Stripe's test card, without a browser. Test mode only.

    Pays the newest open checkout unless `checkoutId` names one; name it to make a retry safe. The
    credits are posted at once, and not again when the webhook arrives. 403 with a live key.
    """
    if call.api.settings.livemode:
        raise PermissionDeniedError(
            "This needs a Stripe test key; the installation has a live key."
        )
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
        errors=(NotFoundError, PermissionDeniedError, ConflictError, StripeFailedError),
        seconds_max=STRIPE_SECONDS_MAX,
        cost=10,
        example={},
    ),
)
