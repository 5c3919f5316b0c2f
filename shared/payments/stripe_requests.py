"""One request to Stripe: counted, and its failure raised as an error of shared/errors.py."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import TypeVar

from shared import metrics
from shared.errors import (
    StripeFailedError,
    StripeForbiddenError,
    StripeMissingError,
    StripeRefusedError,
    StripeThrottledError,
)
from shared.payments.library import stripe
from shared.payments.stripe_failures import (
    REQUEST_ERRORS,
    FailureKind,
    StripeFailure,
    classify,
)

T = TypeVar("T")


async def ask(method: str, request: Awaitable[T]) -> T:
    """Return Stripe's answer; raise StripeFailedError if there is none or it is invalid.

    StripeRefusedError: it had no effect. StripeForbiddenError: the key lacks a permission.
    StripeMissingError: Stripe has no object of that id. StripeThrottledError: it had no effect and
    may succeed later. After any other failure, the request may have taken effect: repeat it with
    the same idempotency key.

    `method` names the request in the metrics, such as `checkout.sessions.create`.
    """
    try:
        answer = await request
    except REQUEST_ERRORS as error:
        metrics.STRIPE_REQUESTS.labels(method, type(error).__name__).inc()
        raise _exception(method, classify(error)) from error
    metrics.STRIPE_REQUESTS.labels(method, "ok").inc()
    return answer


def account_options(account: str, *, key: str | None = None) -> stripe.RequestOptions:
    """Return the options of a request: in a connected account, unless `account` is empty.

    Source: https://docs.stripe.com/connect/authentication
    """
    options: stripe.RequestOptions = {}
    if account:
        options["stripe_account"] = account
    if key is not None:
        options["idempotency_key"] = key
    return options


def hourly(key: str, now: datetime | None = None) -> str:
    """Return an idempotency key that changes every hour.

    Stripe repeats the first response to a key for a day, even a 500: with a constant key, nothing
    could be created for that long. Use it only for objects that may exist twice, since a response
    lost in one hour is not repeated in the next.
    Source: https://docs.stripe.com/api/idempotent_requests
    """
    return f"{key}:{now or datetime.now(UTC):%Y-%m-%dT%H}"


def _exception(method: str, failure: StripeFailure) -> StripeFailedError:
    detail = failure.detail
    match failure.kind:
        case FailureKind.NO_ANSWER:
            return StripeFailedError(f"Stripe did not answer {method}: {detail}")
        case FailureKind.BUSY:
            return StripeFailedError(f"Stripe is busy with {method}: {detail}")
        case FailureKind.THROTTLED:
            return StripeThrottledError(
                f"Stripe is asked too often at present for {method}: {detail}",
                retry_after_seconds=failure.retry_after_seconds,
            )
        case FailureKind.FORBIDDEN:
            return StripeForbiddenError(f"Stripe refused {method}: {detail}")
        case FailureKind.MISSING:
            return StripeMissingError(f"Stripe refused {method}: {detail}")
        case _:
            return StripeRefusedError(f"Stripe refused {method}: {detail}")
