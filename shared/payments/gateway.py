"""The gateway to Stripe, in lanes: no other request takes the rate limit of charges.

Each lane has connections, a concurrency limit and a token bucket of its own. A request that gets
no slot in time fails like one that Stripe throttles: with a 429 and no effect. After a 429 from
Stripe itself, every lane but that of charges pauses.
Source: https://docs.stripe.com/rate-limits
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Any

from shared.payments.client import create_client
from shared.payments.library import stripe
from shared.payments.watched_client import WatchedClient
from shared.token_bucket import TokenBucket

PAUSE_SECONDS_MIN = 1.0
PAUSE_SECONDS_MAX = 60.0


class StripeLane(StrEnum):
    """The cause of a request to Stripe."""

    CHARGES = "charges"
    """Recharges and top-ups."""

    PAGES = "pages"
    """Checkout, portal and card set-up, for keys with the scope `purchases`."""

    QUESTIONS = "questions"
    """Look-ups for events and for payment methods on file."""

    READS = "reads"
    """Requests caused by a read key, a receipt or a pay link."""


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """The limits of one lane in one process, on the wait for a slot and for the response."""

    at_once_max: int
    per_second: float
    burst: int
    wait_seconds_max: float
    answer_seconds_max: float


# In total, these stay below Stripe's 100 reads and 100 writes a second, with one process.
LIMITS: Mapping[StripeLane, LaneLimits] = {
    StripeLane.CHARGES: LaneLimits(40, 80, 80, 20, 30),
    StripeLane.PAGES: LaneLimits(20, 40, 80, 5, 30),
    StripeLane.QUESTIONS: LaneLimits(10, 40, 40, 8, 15),
    StripeLane.READS: LaneLimits(4, 10, 20, 2, 10),
}


class LaneFullError(stripe.RateLimitError):
    """Too many requests to Stripe wait in this lane; nothing was sent."""

    def __init__(self, lane: StripeLane, seconds: float) -> None:
        super().__init__(
            f"Too many requests of the lane `{lane}` wait for Stripe; nothing was sent.",
            http_status=HTTPStatus.TOO_MANY_REQUESTS,
            headers={"Retry-After": str(max(1, math.ceil(seconds)))},
        )


@dataclass(frozen=True, slots=True)
class StripeGateway:
    """A client for each lane."""

    charges: stripe.StripeClient
    pages: stripe.StripeClient
    questions: stripe.StripeClient
    reads: stripe.StripeClient


class _Pause:
    """The pause of all lanes but that of charges, after a 429 from Stripe."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until = 0.0

    def begin(self, retry_after: str | None) -> None:
        wanted = float(retry_after) if retry_after and retry_after.isdigit() else 0.0
        seconds = min(max(wanted, PAUSE_SECONDS_MIN), PAUSE_SECONDS_MAX)
        self._until = max(self._until, self._clock() + seconds)

    @property
    def seconds(self) -> float:
        return max(0.0, self._until - self._clock())


class _LaneHTTPClient(WatchedClient):
    """Sends requests within the limits of a lane."""

    def __init__(
        self, lane: StripeLane, limits: LaneLimits, pause: _Pause, clock: Callable[[], float]
    ) -> None:
        super().__init__(timeout=limits.answer_seconds_max)
        self._lane = lane
        self._limits = limits
        self._pause = pause
        self._clock = clock
        self._turn = asyncio.Semaphore(limits.at_once_max)
        self._bucket = TokenBucket(limits.per_second, limits.burst, clock=clock)

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Wait for a slot, a token and the response; raise LaneFullError without the first two."""
        ends_at = self._clock() + self._limits.wait_seconds_max
        try:
            async with asyncio.timeout(self._limits.wait_seconds_max):
                await self._turn.acquire()
        except TimeoutError:
            raise LaneFullError(self._lane, self._limits.wait_seconds_max) from None
        try:
            await self._token(ends_at)
            answer = await super().request_async(method, url, headers, post_data)
        finally:
            self._turn.release()
        _, status, response_headers = answer
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            self._pause.begin(response_headers.get("Retry-After"))
        return answer

    async def _token(self, ends_at: float) -> None:
        while True:
            paused = 0.0 if self._lane is StripeLane.CHARGES else self._pause.seconds
            wait = paused or self._bucket.take()
            if wait == 0:
                return
            if self._clock() + wait > ends_at:
                raise LaneFullError(self._lane, wait)
            await asyncio.sleep(wait)


@asynccontextmanager
async def stripe_gateway(
    api_key: str,
    api_base: str,
    *,
    limits: Mapping[StripeLane, LaneLimits] = LIMITS,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[StripeGateway]:
    """Yield a client for each lane; their connections are closed on exit."""
    pause = _Pause(clock)
    async with AsyncExitStack() as stack:
        clients: dict[str, stripe.StripeClient] = {}
        for lane in StripeLane:
            http_client = _LaneHTTPClient(lane, limits[lane], pause, clock)
            stack.push_async_callback(http_client.close_async)
            clients[lane] = create_client(api_key, api_base, http_client)
        yield StripeGateway(**clients)
