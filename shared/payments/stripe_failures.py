"""The table of Stripe's errors: the meaning of a failed request, for every caller.

Each caller maps a `FailureKind` to its own result: an exception of shared/errors.py, an answer of
the PaymentIntent gateway, or a missing permission. Source: https://docs.stripe.com/error-codes
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Any

import aiohttp

from shared.payments.library import stripe

# The stripe library raises the last three unchanged if a body is truncated or late.
REQUEST_ERRORS = (stripe.StripeError, aiohttp.ClientError, TimeoutError, OSError)
DETAIL_CHARACTERS_MAX = 500
RETRY_AFTER_SECONDS_MAX = 300


class FailureKind(StrEnum):
    """What a failed request to Stripe means."""

    NO_ANSWER = "no_answer"
    """No answer, or a 5xx: the request may have taken effect."""

    BUSY = "busy"
    """409: a request with the same idempotency key is in progress."""

    STATE_CHANGED = "state_changed"
    """The object is not in the state that the request needs; retrieve it."""

    UNEXPECTED = "unexpected"
    """A 4xx of no kind below, such as an idempotency key that was used for other parameters."""

    THROTTLED = "throttled"
    """429: nothing was done, and a later request may succeed."""

    DECLINED = "declined"
    """The payment method was declined. The body may hold the PaymentIntent."""

    CHARGE_REFUSED = "charge_refused"
    """Nothing was done, because of this payment method or this amount."""

    MISSING = "missing"
    """Nothing was done: Stripe has no such object."""

    METHOD_DETACHED = "method_detached"
    """Nothing was done: the payment method is not attached to the customer any more."""

    UNAUTHORIZED = "unauthorized"
    """401: Stripe does not accept the API key."""

    FORBIDDEN = "forbidden"
    """403: the API key lacks a permission."""

    REJECTED = "rejected"
    """Nothing was done, because of a parameter or a setting of this installation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StripeFailure:
    """A failed request. `detail` is one line for a person.

    `stored`: Stripe has stored this answer under the idempotency key and repeats it for a day.
    Source: https://docs.stripe.com/api/idempotent_requests
    """

    kind: FailureKind
    detail: str
    status: int | None = None
    code: str | None = None
    param: str | None = None
    stored: bool = False
    retry_after_seconds: int | None = None
    payment_intent: Any = None


def classify(error: Exception) -> StripeFailure:
    """Return what an error of a request (one of REQUEST_ERRORS) means."""
    if not isinstance(error, stripe.StripeError):
        return StripeFailure(kind=FailureKind.NO_ANSWER, detail=_detail(error, str(error)))
    headers = {name.lower(): str(value) for name, value in (error.headers or {}).items()}
    return StripeFailure(
        kind=_kind(error),
        detail=_detail(error, error.user_message or str(error)),
        status=error.http_status,
        code=error.code,
        param=getattr(error, "param", None),
        stored=_REPLAYED in headers,
        retry_after_seconds=_retry_after(headers.get("retry-after", "")),
        payment_intent=_payment_intent(error),
    )


def _kind(error: stripe.StripeError) -> FailureKind:
    """Return the kind of the first rule that matches."""
    status = error.http_status
    if not status or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return FailureKind.NO_ANSWER
    for kind, types in _BY_CLASS.items():
        if isinstance(error, types):
            return kind
    if status == HTTPStatus.CONFLICT:
        return FailureKind.BUSY
    if error.code in _STATE_CODES:
        return FailureKind.STATE_CHANGED
    if isinstance(error, stripe.InvalidRequestError):
        return _kind_of_invalid_request(error)
    return FailureKind.UNEXPECTED


def _kind_of_invalid_request(error: stripe.InvalidRequestError) -> FailureKind:
    if _OTHER_MODE in str(error.user_message or error):  # a key of the wrong mode
        return FailureKind.REJECTED
    if error.code == "resource_missing":
        return FailureKind.MISSING
    if error.code is None and error.param == "payment_method":  # Stripe has no code for this
        return FailureKind.METHOD_DETACHED
    return FailureKind.CHARGE_REFUSED if error.code in CHARGE_CODES else FailureKind.REJECTED


def _payment_intent(error: stripe.StripeError) -> Any:
    body: Any = error.json_body if isinstance(error, stripe.CardError) else None
    return (body or {}).get("error", {}).get("payment_intent")


def _retry_after(seconds: str) -> int | None:
    return min(int(seconds), RETRY_AFTER_SECONDS_MAX) if seconds.isdigit() else None


def _detail(error: Exception, text: str) -> str:
    return text.partition("\n")[0][:DETAIL_CHARACTERS_MAX] or type(error).__name__


_BY_CLASS: dict[FailureKind, type[stripe.StripeError]] = {
    FailureKind.DECLINED: stripe.CardError,
    FailureKind.THROTTLED: stripe.RateLimitError,
    FailureKind.UNAUTHORIZED: stripe.AuthenticationError,
    FailureKind.FORBIDDEN: stripe.PermissionError,
}
_STATE_CODES = frozenset({"payment_intent_unexpected_state", "lock_timeout"})
# The header of a stored response that Stripe repeats.
_REPLAYED = "idempotent-replayed"
# The message about an object that exists, but in the other mode of the API key.
# Source: https://docs.stripe.com/error-codes#resource-missing
_OTHER_MODE = "a similar object exists in"

# Codes about this payment method or the amount of this charge: the same request cannot succeed.
# Source: https://docs.stripe.com/error-codes
CHARGE_CODES = frozenset({
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
