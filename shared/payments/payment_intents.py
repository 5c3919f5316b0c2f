"""Charging a saved payment method off session: the four requests about one PaymentIntent.

The PaymentIntent is created unconfirmed and confirmed in a request of its own, so that its id is
stored before any money can move. It captures at most once, however often a request is repeated,
and its state can always be retrieved. Source: https://docs.stripe.com/payments/paymentintents/lifecycle
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Any
from uuid import UUID

from shared import metrics
from shared.payments import stripe_failures
from shared.payments.library import stripe
from shared.payments.objects import ATTEMPT_METADATA, ORGANIZATION_METADATA, TRIGGER_METADATA
from shared.payments.stripe_failures import REQUEST_ERRORS, FailureKind, StripeFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeRequest:
    """A charge to make: `amount_minor` is in the currency's smallest unit."""

    attempt_id: UUID
    organization_id: UUID
    trigger: str
    amount_minor: int
    currency: str
    customer_id: str
    payment_method_id: str
    payment_method_type: str
    stripe_account: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A PaymentIntent as Stripe returned it. The error is that of its last failed payment."""

    id: str
    status: str
    amount_minor: int
    amount_received_minor: int
    currency: str
    client_secret: str | None
    charge_id: str | None
    error_code: str | None = None
    decline_code: str | None = None
    network_advice: str | None = None
    error_message: str | None = None
    redirect_url: str | None = None


@dataclass(frozen=True, slots=True)
class OutcomeUnknown:
    """No answer, or an unclear one: the request may have taken effect. Retrieve the state first.

    `stored`: Stripe stores this answer under the idempotency key, so that another key is needed.
    """

    detail: str
    stored: bool = False


@dataclass(frozen=True, slots=True)
class TryLater:
    """Stripe did nothing and has no capacity now: 429."""

    detail: str


@dataclass(frozen=True, slots=True)
class InstallationRefused:
    """Stripe did nothing, because of this installation: its key, a permission or a parameter.

    `cause` is the same for all requests that are refused for the same reason, such as
    `401 payment_intents.create`. `stored` is as in OutcomeUnknown.
    """

    detail: str
    cause: str
    stored: bool = False


@dataclass(frozen=True, slots=True)
class ChargeRefused:
    """Stripe did nothing and never will, because of this customer's payment method or amount."""

    detail: str
    code: str | None


class Subject(StrEnum):
    """The object of a request that is missing at Stripe."""

    CUSTOMER = "customer"
    PAYMENT_METHOD = "payment_method"
    INTENT = "payment_intent"


@dataclass(frozen=True, slots=True)
class ObjectMissing:
    """Stripe did nothing: it has no such object, or the payment method was detached."""

    detail: str
    subject: Subject


GatewayAnswer = (
    Intent | OutcomeUnknown | TryLater | InstallationRefused | ChargeRefused | ObjectMissing
)


class PaymentIntentGateway:
    """The PaymentIntent requests of a recharge attempt. Raises nothing: a failure is an answer.

    `stripe_account` is the connected account that the charge belongs to; empty: the key's own.
    """

    def __init__(self, client: stripe.StripeClient) -> None:
        self._intents = client.v1.payment_intents

    async def create(self, charge: ChargeRequest, *, key: str) -> GatewayAnswer:
        """Create the PaymentIntent, unconfirmed: nothing is charged yet."""
        params: Any = {
            "amount": charge.amount_minor,
            "currency": charge.currency,
            "customer": charge.customer_id,
            "payment_method": charge.payment_method_id,
            "allowed_payment_method_types": [charge.payment_method_type],
            "description": "Credit recharge",
            "metadata": {
                ORGANIZATION_METADATA: str(charge.organization_id),
                ATTEMPT_METADATA: str(charge.attempt_id),
                TRIGGER_METADATA: charge.trigger,
            },
        }
        return await _answer(
            "payment_intents.create",
            lambda: self._intents.create_async(params, _options(charge.stripe_account, key)),
        )

    async def confirm(self, intent_id: str, *, key: str, stripe_account: str = "") -> GatewayAnswer:
        """Charge the saved payment method off session: the customer is not present."""
        return await _answer(
            "payment_intents.confirm",
            lambda: self._intents.confirm_async(
                intent_id, {"off_session": True}, _options(stripe_account, key)
            ),
        )

    async def confirm_with_customer(
        self, intent_id: str, payment_method_id: str, *, return_url: str, stripe_account: str = ""
    ) -> GatewayAnswer:
        """Charge it on session: the customer authenticates and returns to `return_url`."""
        return await _answer(
            "payment_intents.confirm",
            lambda: self._intents.confirm_async(
                intent_id,
                {"payment_method": payment_method_id, "return_url": return_url},
                _options(stripe_account),
            ),
        )

    async def retrieve(self, intent_id: str, *, stripe_account: str = "") -> GatewayAnswer:
        """Return its current state."""
        return await _answer(
            "payment_intents.retrieve",
            lambda: self._intents.retrieve_async(intent_id, None, _options(stripe_account)),
        )

    async def cancel(self, intent_id: str, *, stripe_account: str = "") -> GatewayAnswer:
        """Cancel it so that it can never charge; refused if it has charged or still may."""
        return await _answer(
            "payment_intents.cancel",
            lambda: self._intents.cancel_async(intent_id, None, _options(stripe_account)),
        )


def _options(stripe_account: str, key: str | None = None) -> Any:
    options = {} if key is None else {"idempotency_key": key}
    return options | ({"stripe_account": stripe_account} if stripe_account else {})


async def _answer(
    method: str, request: Callable[[], Awaitable[stripe.PaymentIntent]]
) -> GatewayAnswer:
    try:
        intent = _intent((await request()).to_dict())
    except REQUEST_ERRORS as error:
        answer = classify(error, method)
        status = getattr(error, "http_status", None) or type(error).__name__
    else:
        answer, status = intent, intent.status
    if isinstance(answer, Intent):
        status = answer.status
    metrics.STRIPE_REQUESTS.labels(method, str(status)).inc()
    return answer


def classify(error: Exception, method: str) -> GatewayAnswer:
    """Return the meaning of a failed request: which of customer and operator must act, if any.

    Only errors that Stripe documents as the customer's count against the customer; all others are
    the installation's. `method` names the request.
    """
    failure = stripe_failures.classify(error)
    detail = failure.detail
    answer: GatewayAnswer
    match failure.kind:
        case FailureKind.DECLINED if failure.payment_intent:
            answer = _intent(failure.payment_intent)
        case FailureKind.DECLINED:
            answer = OutcomeUnknown(detail)
        case kind if kind in _OUTCOME_UNKNOWN:
            answer = OutcomeUnknown(detail, failure.stored)
        case FailureKind.THROTTLED:
            answer = TryLater(detail)
        case FailureKind.CHARGE_REFUSED:
            answer = ChargeRefused(detail, failure.code)
        case FailureKind.METHOD_DETACHED:
            answer = ObjectMissing(detail, Subject.PAYMENT_METHOD)
        case FailureKind.MISSING if failure.param in _SUBJECTS:
            answer = ObjectMissing(detail, _SUBJECTS[failure.param])
        case _:
            answer = InstallationRefused(detail, _cause(failure, method), failure.stored)
    return answer


def _cause(failure: StripeFailure, method: str) -> str:
    code = failure.code if failure.status == HTTPStatus.BAD_REQUEST else None
    return " ".join(filter(None, (str(failure.status), method, code)))


_OUTCOME_UNKNOWN = frozenset({
    FailureKind.NO_ANSWER,
    FailureKind.BUSY,
    FailureKind.STATE_CHANGED,
    FailureKind.UNEXPECTED,
})  # fmt: skip
_SUBJECTS: dict[str | None, Subject] = {
    "customer": Subject.CUSTOMER,
    "payment_method": Subject.PAYMENT_METHOD,
    "intent": Subject.INTENT,
}


def _intent(body: Any) -> Intent:
    error = body.get("last_payment_error") or {}
    action = body.get("next_action") or {}
    charge = body.get("latest_charge")
    return Intent(
        id=body["id"],
        status=body["status"],
        amount_minor=body["amount"],
        amount_received_minor=body.get("amount_received") or 0,
        currency=body["currency"],
        client_secret=body.get("client_secret"),
        charge_id=charge if isinstance(charge, str) or charge is None else charge["id"],
        error_code=error.get("code"),
        decline_code=error.get("decline_code"),
        network_advice=error.get("advice_code") or error.get("network_advice_code"),
        error_message=error.get("message"),
        redirect_url=(action.get("redirect_to_url") or {}).get("url"),
    )
