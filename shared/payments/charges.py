"""Charging a saved payment method without the customer: the four requests about one PaymentIntent.

The PaymentIntent is created unconfirmed and confirmed in a request of its own, so that its id is
kept before any money can move. It captures at most once, whatever is asked of it how often; what
became of it can always be asked. Source: https://docs.stripe.com/payments/paymentintents/lifecycle
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

import aiohttp
import stripe

from shared import metrics
from shared.payments.asking import OTHER_MODE
from shared.payments.objects import ATTEMPT_METADATA, ORGANIZATION_METADATA, TRIGGER_METADATA


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What is to be charged: `amount_minor` in the currency's smallest unit."""

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
    """A PaymentIntent as Stripe says it is. The error is that of its last try, if one failed."""

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
class Unknown:
    """No answer, or one that does not say: it may have happened. Ask Stripe first.

    `stored`: Stripe stores this answer under the idempotency key, so that another key is needed.
    """

    detail: str
    stored: bool = False


@dataclass(frozen=True, slots=True)
class NotNow:
    """Stripe did nothing, and asks to come back later: 429, or it could not be reached."""

    detail: str


@dataclass(frozen=True, slots=True)
class OurFault:
    """Stripe did nothing, for a reason about this installation: its key, a permission, a parameter.

    `cause` is the same for all requests that are refused for the same reason, such as
    `401 payment_intents.create`. `stored` as in Unknown.
    """

    detail: str
    cause: str
    stored: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Stripe did nothing and never will, for a reason about this customer's charge."""

    detail: str
    code: str | None


class Subject(StrEnum):
    """What a request about a charge names."""

    CUSTOMER = "customer"
    PAYMENT_METHOD = "payment_method"
    INTENT = "payment_intent"


@dataclass(frozen=True, slots=True)
class Missing:
    """Stripe did nothing: it does not know this object, or the payment method was detached."""

    detail: str
    subject: Subject


Answer = Intent | Unknown | NotNow | OurFault | Refused | Missing


class Charges:
    """Stripe's side of a recharge attempt. Raises nothing: every failure is an answer.

    `stripe_account` is the connected account that the charge belongs to; empty: the key's own.
    """

    def __init__(self, client: stripe.StripeClient) -> None:
        self._intents = client.v1.payment_intents

    async def create(self, charge: Charge, *, key: str) -> Answer:
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

    async def confirm(self, intent_id: str, *, key: str, stripe_account: str = "") -> Answer:
        """Charge the saved payment method while the customer is away."""
        return await _answer(
            "payment_intents.confirm",
            lambda: self._intents.confirm_async(
                intent_id, {"off_session": True}, _options(stripe_account, key)
            ),
        )

    async def confirm_with_customer(
        self, intent_id: str, payment_method_id: str, *, return_url: str, stripe_account: str = ""
    ) -> Answer:
        """Charge it while the customer is here: they are sent to authenticate, and come back."""
        return await _answer(
            "payment_intents.confirm",
            lambda: self._intents.confirm_async(
                intent_id,
                {"payment_method": payment_method_id, "return_url": return_url},
                _options(stripe_account),
            ),
        )

    async def retrieve(self, intent_id: str, *, stripe_account: str = "") -> Answer:
        """Ask what became of it."""
        return await _answer(
            "payment_intents.retrieve",
            lambda: self._intents.retrieve_async(intent_id, None, _options(stripe_account)),
        )

    async def cancel(self, intent_id: str, *, stripe_account: str = "") -> Answer:
        """Make sure that it never charges: Stripe refuses where it has already, or may still."""
        return await _answer(
            "payment_intents.cancel",
            lambda: self._intents.cancel_async(intent_id, None, _options(stripe_account)),
        )


def _options(stripe_account: str, key: str | None = None) -> Any:
    options = {} if key is None else {"idempotency_key": key}
    return options | ({"stripe_account": stripe_account} if stripe_account else {})


async def _answer(method: str, ask: Callable[[], Awaitable[stripe.PaymentIntent]]) -> Answer:
    answer, status = await _asked(method, ask)
    metrics.STRIPE_REQUESTS.labels(method, status).inc()
    return answer


async def _asked(
    method: str, ask: Callable[[], Awaitable[stripe.PaymentIntent]]
) -> tuple[Answer, str]:
    """Return the answer, and what it is called in the metrics."""
    try:
        intent = _intent((await ask()).to_dict())
    except stripe.StripeError as error:
        answer = classify(error, method)
        if isinstance(answer, Intent):
            return answer, answer.status
        return answer, str(error.http_status or type(error).__name__)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        # stripe lets these pass where the body is cut or late.
        return Unknown(repr(error)), type(error).__name__
    return intent, intent.status


def classify(error: stripe.StripeError, method: str) -> Answer:
    """Say what a failure means, and whose fault it is: the customer's, ours, or nobody's.

    Only what Stripe says about this customer counts against them; whatever is not known to be about
    them is about this installation. `method` names the request. Source: https://docs.stripe.com/error-codes
    """
    if isinstance(error, stripe.CardError):
        body: Any = error.json_body or {}
        declined = body.get("error", {}).get("payment_intent")
        return _intent(declined) if declined else Unknown(_words(error))
    if isinstance(error, stripe.RateLimitError):
        return NotNow(_words(error))
    stored = {name.lower() for name in error.headers or {}} >= {_REPLAYED}
    if not isinstance(error, _REFUSALS):
        return Unknown(_words(error), stored)
    # A conflict is about a request that runs right now, or about the state that it left.
    if error.http_status == _CONFLICT or error.code in _STATE_MOVED_ON:
        return Unknown(_words(error), stored)
    found = _about_the_customer(error) if isinstance(error, stripe.InvalidRequestError) else None
    return found or _about_us(error, method, stored=stored)


def _about_the_customer(error: stripe.InvalidRequestError) -> Missing | Refused | None:
    subject = _missing(error)
    if subject is not None:
        return Missing(_words(error), subject)
    return Refused(_words(error), error.code) if error.code in ABOUT_THE_CHARGE else None


def _about_us(error: stripe.StripeError, method: str, *, stored: bool) -> OurFault:
    code = error.code if error.http_status == _BAD_REQUEST else None
    cause = " ".join(filter(None, (str(error.http_status), method, code)))
    return OurFault(_words(error), cause, stored)


def _missing(error: stripe.InvalidRequestError) -> Subject | None:
    """Say which object of the request Stripe does not know, or has detached from its customer.

    A detached payment method has no code of its own: its parameter says what it is about. What
    exists in the other mode is not missing: our key is of the wrong mode.
    """
    if OTHER_MODE in _words(error):
        return None
    param = error.param
    if param == "payment_method" and error.code in {None, _MISSING}:
        return Subject.PAYMENT_METHOD
    if error.code != _MISSING:
        return None
    return {"customer": Subject.CUSTOMER, "intent": Subject.INTENT}.get(param or "")


_REFUSALS = (stripe.InvalidRequestError, stripe.AuthenticationError, stripe.PermissionError)
_BAD_REQUEST = 400
_CONFLICT = 409
_MISSING = "resource_missing"
_STATE_MOVED_ON = frozenset({"payment_intent_unexpected_state", "lock_timeout"})
# Stripe marks an answer that it has stored and gives again, whose key can get no other for a day.
# Source: https://docs.stripe.com/api/idempotent_requests
_REPLAYED = "idempotent-replayed"

# What is about this payment method or the amount of this charge, so that asking again cannot help.
# Source: https://docs.stripe.com/error-codes
ABOUT_THE_CHARGE = frozenset({
    "account_closed", "account_number_invalid", "amount_too_large", "amount_too_small",
    "bank_account_declined", "bank_account_restricted", "bank_account_unusable",
    "bank_account_unverified", "card_declined", "charge_exceeds_source_limit",
    "charge_exceeds_transaction_limit", "debit_not_authorized", "expired_card",
    "incorrect_address", "incorrect_cvc", "incorrect_number", "incorrect_zip",
    "insufficient_funds", "invalid_card_type", "invalid_charge_amount", "invalid_cvc",
    "invalid_expiry_month", "invalid_expiry_year", "invalid_number", "no_account",
    "payment_intent_incompatible_payment_method", "payment_intent_mandate_invalid",
    "payment_intent_payment_attempt_expired", "payment_intent_payment_attempt_failed",
    "payment_method_bank_account_blocked", "payment_method_billing_details_address_missing",
    "payment_method_currency_mismatch", "payment_method_customer_decline",
    "payment_method_invalid_parameter", "payment_method_microdeposit_failed",
    "payment_method_microdeposit_verification_attempts_exceeded",
    "payment_method_microdeposit_verification_timeout", "payment_method_provider_decline",
    "payment_method_unexpected_state",
})  # fmt: skip


def _words(error: stripe.StripeError) -> str:
    return str(error.user_message or error).partition("\n")[0][:500] or type(error).__name__


def _intent(found: Any) -> Intent:
    error = found.get("last_payment_error") or {}
    action = found.get("next_action") or {}
    charge = found.get("latest_charge")
    return Intent(
        id=found["id"],
        status=found["status"],
        amount_minor=found["amount"],
        amount_received_minor=found.get("amount_received") or 0,
        currency=found["currency"],
        client_secret=found.get("client_secret"),
        charge_id=charge if isinstance(charge, str) or charge is None else charge["id"],
        error_code=error.get("code"),
        decline_code=error.get("decline_code"),
        network_advice=error.get("advice_code") or error.get("network_advice_code"),
        error_message=error.get("message"),
        redirect_url=(action.get("redirect_to_url") or {}).get("url"),
    )
