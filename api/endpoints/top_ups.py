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
    NothingChargedError,
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
    """What the customer can do about a failed payment."""

    ADD_PAYMENT_METHOD = "add_payment_method"
    UPDATE_PAYMENT_METHOD = "update_payment_method"
    AUTHENTICATE = "authenticate"


async def create_top_up(call: Call) -> Reply:
    """Buy credits now with the payment method on file, while the customer is present.

    The response is the attempt: `succeeded`, `processing` for a delayed payment method, or
    `charging` or `unknown` if Stripe has not answered yet; a worker then finishes it. A 402 says in
    `nextAction` what the customer can do: add a payment method, use another one, or authenticate at
    `url` within 30 minutes. A new top-up replaces one that waits for the customer; 409 while any
    other charge is in progress.

    The same `Idempotency-Key` never charges again: it returns the state of the attempt until that
    is final. After a 502 whose cause was corrected, retry with the same key. After a decline, retry
    with a new key; a payment method that was declined five times within an hour is not charged
    again for an hour. 429 if the daily limit of the organization or the key is reached;
    `Retry-After` is the start of the next day.
    """
    body: TopUpRequest = call.body
    price = ChargeAmount(*purchase_price_of(call, body.amount))
    try:
        done = await _top_up(call, price)
    except NoPaymentMethodError as error:
        raise _with_next_action(error, NextStep.ADD_PAYMENT_METHOD) from None
    except MethodDeclinedError as error:
        raise _with_next_action(error, NextStep.UPDATE_PAYMENT_METHOD) from None
    state = AttemptState(done.attempt["state"])
    if done.attempt["reason"] == MISSING:  # the customer or the payment method is gone at Stripe
        call.api.organizations.forget(call.owner)
        raise _with_next_action(NoPaymentMethodError(), NextStep.ADD_PAYMENT_METHOD)
    if done.attempt["reason"] in {REFUSED, STRIPE_ERROR}:
        detail = f"Stripe refused the charge: {done.attempt['detail']}"
        # A canceled attempt has charged nothing and never will: its key may start another.
        canceled = state is AttemptState.CANCELED
        raise NothingChargedError(detail) if canceled else StripeFailedError(detail)
    failure = _payment_error(done)
    if failure is not None:  # a response like any other, not an error: the attempt is stored
        return Reply(envelope(failure), failure.status, final=state in FINAL_STATES)
    return Reply(auto_recharge.attempt_response(done.attempt), final=state in FINAL_STATES)


async def _top_up(call: Call, price: ChargeAmount) -> ToppedUp:
    """Charge the payment method on file, after fetching missing details of it from Stripe.

    A customer who has just bought may top up before a worker has fetched them.
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


def _with_next_action(error: PaymentRequiredError, step: NextStep) -> PaymentRequiredError:
    return PaymentRequiredError(error.detail, more={"nextAction": {"type": step, "url": None}})


def _payment_error(done: ToppedUp) -> PaymentRequiredError | None:
    attempt = done.attempt
    match AttemptState(attempt["state"]):
        case AttemptState.REQUIRES_ACTION:
            step = {"type": NextStep.AUTHENTICATE, "url": done.url}
            detail = "The customer's bank requires authentication for this payment."
        case AttemptState.FAILED | AttemptState.CANCELED:
            step = {"type": NextStep.UPDATE_PAYMENT_METHOD, "url": None}
            detail = f"The payment failed: {attempt['detail'] or attempt['reason']}"
        case _:
            return None
    response = auto_recharge.attempt_response(attempt)
    return PaymentRequiredError(detail, more={"nextAction": step, "attempt": response})


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
