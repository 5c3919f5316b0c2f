"""One request to Stripe: counted, and its failures told as one error."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TypeVar

import aiohttp
import stripe

from shared import metrics
from shared.errors import (
    StripeFailedError,
    StripeMissingError,
    StripeRefusedError,
    StripeThrottledError,
)

T = TypeVar("T")

# stripe lets the last three through as they are, where the body is cut or late.
AWAY = (stripe.StripeError, aiohttp.ClientError, TimeoutError, OSError)
WORDS_MAX = 500
RETRY_AFTER_SECONDS_MAX = 300
# What Stripe says of an object that our key cannot see because it is of the wrong mode.
# Source: https://docs.stripe.com/error-codes#resource-missing
OTHER_MODE = "a similar object exists in"


async def ask(method: str, request: Awaitable[T]) -> T:
    """Return Stripe's answer; raise StripeFailedError where there was none, or it was no answer.

    StripeRefusedError: it did nothing. StripeMissingError: it knows nothing of that id.
    StripeThrottledError: it did nothing, and is to be asked later: nobody's failure. After any
    other failure it may have happened all the same: ask again with the same idempotency key.

    `method` names the request in the metrics, such as `checkout.sessions.create`.
    """
    try:
        answer = await request
    except AWAY as error:
        metrics.STRIPE_REQUESTS.labels(method, type(error).__name__).inc()
        raise _failure(method, error) from error
    metrics.STRIPE_REQUESTS.labels(method, "ok").inc()
    return answer


def account_options(account: str, *, key: str | None = None) -> stripe.RequestOptions:
    """Return the options of a request: in a connected account, unless `account` is empty.

    Source: https://docs.stripe.com/connect/authentication
    """
    asked: stripe.RequestOptions = {}
    if account:
        asked["stripe_account"] = account
    if key is not None:
        asked["idempotency_key"] = key
    return asked


def hourly(key: str, now: datetime | None = None) -> str:
    """Return an idempotency key that is another one every hour.

    Stripe gives the first answer to a key again for a day, be it a 500: under a key that stayed the
    same, nothing could be created for as long. For what harms nobody where it exists twice, since
    an answer that was lost in one hour is not found again in the next.
    Source: https://docs.stripe.com/api/idempotent_requests
    """
    return f"{key}:{now or datetime.now(UTC):%Y-%m-%dT%H}"


def _failure(method: str, error: Exception) -> StripeFailedError:
    status = error.http_status if isinstance(error, stripe.StripeError) else None
    if status is None or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return StripeFailedError(f"Stripe did not answer {method}: {_words(error)}")
    if isinstance(error, stripe.RateLimitError):
        return StripeThrottledError(
            f"Stripe is asked too often at present for {method}: {_words(error)}",
            retry_after_seconds=_retry_after(error),
        )
    kind = StripeRefusedError
    missing = isinstance(error, stripe.StripeError) and error.code == "resource_missing"
    if missing and OTHER_MODE not in _words(error):
        kind = StripeMissingError
    if status == HTTPStatus.CONFLICT:  # the first request with this key is under way
        return StripeFailedError(f"Stripe is busy with {method}: {_words(error)}")
    return kind(f"Stripe refused {method}: {_words(error)}")


def _retry_after(error: stripe.StripeError) -> int | None:
    asked = {name.lower(): value for name, value in (error.headers or {}).items()}
    seconds = str(asked.get("retry-after", ""))
    return min(int(seconds), RETRY_AFTER_SECONDS_MAX) if seconds.isdigit() else None


def _words(error: Exception) -> str:
    said = error.user_message if isinstance(error, stripe.StripeError) else None
    return str(said or error).partition("\n")[0][:WORDS_MAX] or type(error).__name__
