"""One request to Stripe: counted, and its failures told as one error."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

import aiohttp
import stripe

from shared import metrics
from shared.errors import StripeFailedError

T = TypeVar("T")

# stripe lets the last three through as they are, where the body is cut or late.
AWAY = (stripe.StripeError, aiohttp.ClientError, TimeoutError, OSError)
WORDS_MAX = 500


async def ask(method: str, request: Awaitable[T]) -> T:
    """Return Stripe's answer; raise StripeFailedError where it refused, or did not answer.

    `method` names the request in the metrics, such as `checkout.sessions.create`. What fails may
    have happened all the same: ask again with the same idempotency key.
    """
    try:
        answer = await request
    except AWAY as error:
        metrics.STRIPE_REQUESTS.labels(method, type(error).__name__).inc()
        raise StripeFailedError(f"Stripe did not answer {method}: {_words(error)}") from error
    metrics.STRIPE_REQUESTS.labels(method, "ok").inc()
    return answer


def _words(error: Exception) -> str:
    said = error.user_message if isinstance(error, stripe.StripeError) else None
    return str(said or error).partition("\n")[0][:WORDS_MAX] or type(error).__name__
