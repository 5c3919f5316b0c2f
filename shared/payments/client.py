"""The Stripe client, set up once: real time-outs, no telemetry, no retries of its own.

A retry inside the library would hide an unknown outcome. Callers retry: they have the idempotency
key and can look up the outcome of the first request.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime

from shared.errors import StripeFailedError, StripeRefusedError
from shared.payments.library import stripe
from shared.payments.stripe_failures import REQUEST_ERRORS, FailureKind, classify
from shared.payments.watched_client import ReadOnlyClient, WatchedClient

STRIPE_SECONDS_MAX = 30

# For packages that pass the client on without calling it.
Stripe = stripe.StripeClient


@asynccontextmanager
async def stripe_client(
    api_key: str,
    api_base: str,
    *,
    seconds_max: float = STRIPE_SECONDS_MAX,
    read_only: bool = False,
) -> AsyncIterator[stripe.StripeClient]:
    """Yield a client for Stripe or a simulator; its connections are closed on exit.

    `read_only`: it sends GET requests alone, and refuses any other before it is sent.
    """
    kind = ReadOnlyClient if read_only else WatchedClient
    http_client = kind(timeout=seconds_max)
    try:
        yield create_client(api_key, api_base, http_client)
    finally:
        await http_client.close_async()  # type: ignore[no-untyped-call] # untyped in stripe


def create_client(
    api_key: str, api_base: str, http_client: stripe.HTTPClient
) -> stripe.StripeClient:
    """Return a client that sends its requests with `http_client`, each once."""
    stripe.enable_telemetry = False
    return stripe.StripeClient(
        api_key,
        base_addresses={"api": api_base},
        max_network_retries=0,
        http_client=http_client,
    )


async def check_key(api_key: str, api_base: str) -> datetime | None:
    """List one event; raise StripeFailedError if Stripe does not answer or refuses the key.

    A restricted key without permission to list events is accepted too. Returns Stripe's time, from
    the Date header: to the second, or None without one.
    """
    async with stripe_client(api_key, api_base) as client:
        try:
            answer = await client.raw_request_async("get", "/v1/events", limit=1)
            return _date(answer.headers)
        except REQUEST_ERRORS as error:
            failure = classify(error)
            if failure.kind is FailureKind.FORBIDDEN:
                return _date(getattr(error, "headers", None) or {})
            if failure.kind is FailureKind.UNAUTHORIZED:
                raise StripeRefusedError(
                    f"Stripe refuses STRIPE_API_KEY ({failure.detail}). Set it to a"
                    " key that works; until then nothing is charged, and no checkout opens."
                ) from error
            raise StripeFailedError(failure.detail) from error


def _date(headers: Mapping[str, str]) -> datetime | None:
    text = next((value for name, value in headers.items() if name.lower() == "date"), None)
    try:
        return None if text is None else parsedate_to_datetime(text)
    except ValueError:
        return None
