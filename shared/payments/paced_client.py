"""A Stripe client for long work in the background: a steady rate, and no request given up early."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from shared.payments.client import STRIPE_SECONDS_MAX, create_client
from shared.payments.library import stripe
from shared.payments.stripe_failures import REQUEST_ERRORS
from shared.payments.watched_client import WatchedClient, refuse_changes
from shared.token_bucket import TokenBucket

THROTTLED_TRIES_MAX = 6
FAILED_TRIES_MAX = 3
WAIT_SECONDS_MAX = 30.0

Answer = tuple[bytes, int, Mapping[str, str]]


class PacedClient(WatchedClient):
    """Sends requests at a steady rate; repeats one that Stripe throttled, and a GET that failed."""

    def __init__(
        self,
        per_second: float,
        *,
        read_only: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__(timeout=STRIPE_SECONDS_MAX)
        self._bucket = TokenBucket(per_second, 1, clock=clock)
        self._sleep = sleep
        self._read_only = read_only

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> Answer:
        """Return Stripe's answer, the last one after several tries; raise what the last raised.

        A read-only client raises StripeRefusedError for anything but a GET, and does not send it.
        """
        if self._read_only:
            refuse_changes(method, url)
        tries = 0
        while True:
            await self._token()
            tries += 1
            failed_max = FAILED_TRIES_MAX if method.lower() == "get" else 1
            try:
                answer = await super().request_async(method, url, headers, post_data)
            except REQUEST_ERRORS:
                if tries >= failed_max:
                    raise
                await self._sleep(_wait(tries))
                continue
            _, status, answered = answer
            throttled = status == HTTPStatus.TOO_MANY_REQUESTS
            failed = status >= HTTPStatus.INTERNAL_SERVER_ERROR
            if not (throttled or failed):
                return answer
            if tries >= (THROTTLED_TRIES_MAX if throttled else failed_max):
                return answer
            await self._sleep(_wait(tries, answered.get("Retry-After")))

    async def _token(self) -> None:
        while wait := self._bucket.take():
            await self._sleep(wait)


@asynccontextmanager
async def paced_client(
    api_key: str, api_base: str, *, per_second: float, read_only: bool = False
) -> AsyncIterator[stripe.StripeClient]:
    """Give a client of at most so many requests a second; its connections close at the end.

    `read_only`: it sends GET requests alone, and refuses any other before it is sent.
    """
    http_client = PacedClient(per_second, read_only=read_only)
    try:
        yield create_client(api_key, api_base, http_client)
    finally:
        await http_client.close_async()  # type: ignore[no-untyped-call] # stripe leaves it bare


def _wait(tries: int, retry_after: str | None = None) -> float:
    """Return the wait after so many tries: as Stripe asks, or twice as long each time."""
    if retry_after is not None and retry_after.isdigit():
        return min(float(retry_after), WAIT_SECONDS_MAX)
    return min(2.0 ** (tries - 1), WAIT_SECONDS_MAX)
