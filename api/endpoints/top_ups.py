"""Top-ups: charging the payment method on file while the customer is present."""

from __future__ import annotations

import enum

from api.endpoints import auto_recharge
from api.endpoints.auto_recharge import AttemptResponse
from api.endpoints.purchases import STRIPE_SECONDS_MAX, purchase_price_of
from api.framework.fields import Number, Request
from api.framework.operation import Call, Operation, Reply, Retry
from shared.access.model import Scope
from shared.errors import (
    ConflictError,
    MethodDeclinedError,
    MethodUndescribedError,
    NoPaymentMethodError,
    PaymentRequiredError,
    StripeFailedError,
    ValidationError,
)
from shared.events.payment_method_details import fetch_on_file
from shared.http.envelope import envelope
from shared.payments.lookup import StripeLookup
from shared.recharge.model import FINAL_STATES, REFUSED, STRIPE_ERROR, AttemptState
from shared.recharge.rules import ChargeAmount
from shared.recharge.top_ups.daily import DailyLimits
from shared.recharge.top_ups.service import ToppedUp, top_up

# The reason of an attempt whose customer or payment method does not exist at Stripe.
MISSING = "resource_missing"


class TopUpRequest(Request):
    """The credits to buy with the payment method on file."""

    amount: Number


class NextStep(enum.StrEnum):
    """What a customer can do about a payment that did not go through."""

    ADD_PAYMENT_METHOD = "add_payment_method"
    UPDATE_PAYMENT_METHOD = "update_payment_method"
    AUTHENTICATE = "authenticate"


async def create_top_up(call: Call) -> Reply:
    """Buy credits now with the card on file, while the customer is here.

    The answer is the attempt: `succeeded`, or how far it has come: `processing` for a slow method,
    `charging` or `unknown` where Stripe has not answered yet, which a worker settles. 402 says in
    `nextAction` what the customer can do: add a card, use another, or authenticate at `url` within
    30 minutes. Another top-up replaces one that waits for its customer; 409 while any other charge
    is under way. The same `Idempotency-Key` never charges again: it is told
    how the attempt stands, until that is final. After a decline, try again with another key; a
    method that was declined five times within an hour is not charged again for as long. 429 where
    the daily limit of this organization or this key is reached; `Retry-After` is the next day.
    """
    body: TopUpRequest = call.body
    price = ChargeAmount(*purchase_price_of(call, body.amount))
    try:
        done = await _top_up(call, price)
    except NoPaymentMethodError as error:
        raise _to_do(error, NextStep.ADD_PAYMENT_METHOD) from None
    except MethodDeclinedError as error:
        raise _to_do(error, NextStep.UPDATE_PAYMENT_METHOD) from None
    state = AttemptState(done.attempt["state"])
    if done.attempt["reason"] == MISSING:  # the customer or the card, and it is forgotten by now
        call.api.organizations.forget(call.owner)
        raise _to_do(NoPaymentMethodError(), NextStep.ADD_PAYMENT_METHOD)
    if done.attempt["reason"] in {REFUSED, STRIPE_ERROR}:
        raise StripeFailedError(f"Stripe refused the charge: {done.attempt['detail']}")
    refused = _refusal(done)
    if refused is not None:  # it is an answer like any other: the attempt was made, and stays
        return Reply(envelope(refused), refused.status, final=state in FINAL_STATES)
    return Reply(auto_recharge.attempt_response(done.attempt), final=state in FINAL_STATES)


async def _top_up(call: Call, price: ChargeAmount) -> ToppedUp:
    """Charge what is on file; where Stripe has not described it yet, it is asked first.

    A customer who has just bought may top up before a worker has asked.
    """
    charger, owner, actor = call.api.charger, call.owner, call.actor
    limits = DailyLimits.of(call.api.settings)
    try:
        return await top_up(charger, owner, price, attempt_id=call.id, actor=actor, limits=limits)
    except MethodUndescribedError:
        lookup = StripeLookup(call.api.stripe)
        if not await fetch_on_file(call.api.pool, lookup, owner.id, now=charger.now):
            raise
    return await top_up(charger, owner, price, attempt_id=call.id, actor=actor, limits=limits)


def _to_do(error: PaymentRequiredError, step: NextStep) -> PaymentRequiredError:
    return PaymentRequiredError(error.detail, more={"nextAction": {"type": step, "url": None}})


def _refusal(done: ToppedUp) -> PaymentRequiredError | None:
    attempt = done.attempt
    match AttemptState(attempt["state"]):
        case AttemptState.REQUIRES_ACTION:
            step = {"type": NextStep.AUTHENTICATE, "url": done.url}
            detail = "The bank wants the customer to authenticate this payment."
        case AttemptState.FAILED | AttemptState.CANCELED:
            step = {"type": NextStep.UPDATE_PAYMENT_METHOD, "url": None}
            detail = f"The payment did not go through: {attempt['detail'] or attempt['reason']}"
        case _:
            return None
    shown = auto_recharge.attempt_response(attempt)
    return PaymentRequiredError(detail, more={"nextAction": step, "attempt": shown})


OPERATIONS = (
    Operation(
        name="topUp",
        tag="Purchases",
        method="POST",
        path="/v1/billing/{organizationId}/top-up",
        handle=create_top_up,
        body=TopUpRequest,
        response=AttemptResponse,
        scope=Scope.PURCHASES,
        retry=Retry.RESUMED,
        errors=(ValidationError, PaymentRequiredError, ConflictError, StripeFailedError),
        seconds_max=STRIPE_SECONDS_MAX,
        cost=10,
        example={"amount": 25},
    ),
)
