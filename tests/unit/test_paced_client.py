"""Long work in the background asks Stripe at a steady rate, and again after a refusal."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from shared.errors import StripeRefusedError
from shared.payments.paced_client import FAILED_TRIES_MAX, THROTTLED_TRIES_MAX, PacedClient
from shared.payments.permissions import named
from tests.fixtures.product import listening

RETRY_AFTER = {"Retry-After": "7"}


class Stripe:
    """Answers requests with a list of statuses, the last one from then on."""

    def __init__(self) -> None:
        self.statuses = [200]
        self.asked = 0
        self.waits: list[float] = []
        self.now = 0.0

    async def answer(self, _request: web.Request) -> web.Response:
        status = self.statuses[min(self.asked, len(self.statuses) - 1)]
        self.asked += 1
        return web.json_response({}, status=status, headers=RETRY_AFTER if status == 429 else {})

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    def client(self, per_second: float = 1_000) -> PacedClient:
        return PacedClient(per_second, clock=lambda: self.now, sleep=self.sleep)


@pytest.fixture
def stripe() -> Stripe:
    return Stripe()


async def ask(stripe: Stripe, client: PacedClient, method: str = "get", times: int = 1) -> int:
    status = 0
    async with listening([web.route("*", "/", stripe.answer)]) as port:
        for _ in range(times):
            _, status, _ = await client.request_async(method, f"http://127.0.0.1:{port}/", {})
    await client.close_async()  # type: ignore[no-untyped-call]
    return status


async def test_requests_keep_to_the_rate(stripe: Stripe) -> None:
    await ask(stripe, stripe.client(per_second=4), times=9)
    assert sum(stripe.waits) == pytest.approx(8 / 4)


async def test_a_throttled_request_waits_as_long_as_stripe_says(stripe: Stripe) -> None:
    stripe.statuses = [429, 429, 200]
    assert await ask(stripe, stripe.client(), "post") == 200
    assert [wait for wait in stripe.waits if wait >= 1] == [7, 7]


@pytest.mark.parametrize(
    ("method", "status", "tries"),
    [
        ("get", 429, THROTTLED_TRIES_MAX),
        ("get", 500, FAILED_TRIES_MAX),
        ("post", 500, 1),
        ("get", 403, 1),
    ],
)
async def test_a_request_is_repeated_where_that_can_help_and_not_for_ever(
    stripe: Stripe, method: str, status: int, tries: int
) -> None:
    stripe.statuses = [status]
    assert await ask(stripe, stripe.client(), method) == status
    assert stripe.asked == tries


async def test_a_client_that_only_reads_sends_no_post(stripe: Stripe) -> None:
    client = PacedClient(1_000, read_only=True)
    with pytest.raises(StripeRefusedError, match="only reads"):
        await ask(stripe, client, "post")
    assert stripe.asked == 0
    assert await ask(stripe, client) == 200


@pytest.mark.parametrize(
    ("detail", "permission"),
    [
        ("Having the 'rak_dispute_read' permission would allow", "Disputes: Read"),
        ("Having the 'rak_payment_intent_write' permission", "PaymentIntents: Write"),
        ("Having the 'rak_shoe_read' permission", "rak_shoe_read"),
        ("No such thing", None),
    ],
)
def test_a_refusal_names_the_permission_as_the_dashboard_does(detail: str, permission: Any) -> None:
    assert named(detail) == permission
