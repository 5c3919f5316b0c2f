"""Stripe repeats its first answer to a key, a 500 too: no customer is stuck with it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from shared.errors import StripeFailedError
from shared.organizations.model import Organization
from shared.payments.client import stripe_client
from shared.payments.customers import ensure_customer
from shared.payments.stripe_requests import hourly
from tests.fixtures.product import listening

if TYPE_CHECKING:
    from shared.db.pool import Pool

NOW = datetime(2031, 1, 31, 9, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_a_key_of_an_hour_is_the_same_until_the_next() -> None:
    keys = [hourly("customer:1", NOW + minutes * timedelta(minutes=1)) for minutes in (0, 29, 30)]
    assert keys[0] == keys[1] != keys[2]
    assert hourly("customer:1", NOW + 24 * HOUR) not in keys
    assert hourly("customer:2", NOW) not in keys


async def test_a_customer_is_created_although_stripe_keeps_a_500(
    pool: Pool, organization: Organization
) -> None:
    answers: dict[str, int] = {}
    failing = True

    async def create(request: web.Request) -> web.Response:
        status = answers.setdefault(request.headers["Idempotency-Key"], 500 if failing else 200)
        customer = {"object": "customer", "id": f"cus_{len(answers)}"}
        error = {"error": {"type": "api_error", "message": "it is broken"}}
        headers = {"Stripe-Should-Retry": "false"}
        if status == 200:
            return web.json_response(customer)
        return web.json_response(error, status=500, headers=headers)

    async with (
        listening([web.post("/v1/customers", create)]) as port,
        stripe_client("sk_test_x", f"http://127.0.0.1:{port}") as client,
    ):
        with pytest.raises(StripeFailedError):
            await ensure_customer(pool, client, organization, now=NOW)
        failing = False
        with pytest.raises(StripeFailedError):
            await ensure_customer(pool, client, organization, now=NOW)
        made = await ensure_customer(pool, client, organization, now=NOW + HOUR)
        other = await ensure_customer(pool, client, organization, now=NOW + 2 * HOUR)
    assert (made, other) == ("cus_2", "cus_2")
