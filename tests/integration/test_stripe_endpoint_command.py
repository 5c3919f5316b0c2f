"""`prepaid stripe endpoint create`: the secret that Stripe shows once is never lost."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.fixtures.commands import Command, assert_refused
from tests.fixtures.freezing import gate
from tests.fixtures.servers import process_url

if TYPE_CHECKING:
    import aiohttp
    import stripe

    from sandbox.stripe.process import SimulatorProcess

CREATE = ("stripe", "endpoint", "create", "--url", "https://once.example.com/v1/webhooks/stripe")
PASSED_ON = ("Authorization", "Content-Type", "Stripe-Version", "Idempotency-Key")


@asynccontextmanager
async def watched(
    stand_in: SimulatorProcess, client: aiohttp.ClientSession, on_request: Callable[[], None]
) -> AsyncIterator[str]:
    """Serve the simulator at another address, and call a function after each request."""

    async def forward(request: web.Request) -> web.Response:
        headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
        url = stand_in.url + request.path_qs
        async with client.request(
            request.method, url, data=await request.read(), headers=headers
        ) as answer:
            body = await answer.read()
        on_request()
        return web.Response(status=answer.status, body=body, content_type=answer.content_type)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", forward)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


async def test_a_database_that_is_away_after_the_request_does_not_cost_the_secret(
    database_url: str,
    prepaid: Command,
    stand_in: SimulatorProcess,
    stripe_api: stripe.StripeClient,
    client: aiohttp.ClientSession,
) -> None:
    async with gate(process_url(database_url)) as postgres:

        def lose_database() -> None:
            postgres.refuses = True

        async with watched(stand_in, client, lose_database) as stripe_url:
            env = {"STRIPE_API_BASE": stripe_url, "DATABASE_URL": postgres.url}
            for options in ((), ("--json",)):
                postgres.refuses = False
                finished = await prepaid(*CREATE, *options, **env)
                assert finished.code == 1
                assert "whsec_" in finished.stdout
                (line,) = finished.stderr.strip().splitlines()
                assert "exists at Stripe" in line
                assert "the audit log may lack its entry" in line
    made = json.loads(finished.stdout)
    assert made["secret"].startswith("whsec_")
    found = await stripe_api.v1.webhook_endpoints.retrieve_async(made["id"])
    assert found.url == made["url"]


async def test_without_a_database_stripe_is_asked_for_no_endpoint(
    database_url: str, prepaid: Command, stand_in: SimulatorProcess, client: aiohttp.ClientSession
) -> None:
    requests: list[None] = []
    async with (
        gate(process_url(database_url)) as postgres,
        watched(stand_in, client, lambda: requests.append(None)) as stripe_url,
    ):
        postgres.refuses = True
        env = {"STRIPE_API_BASE": stripe_url, "DATABASE_URL": postgres.url}
        assert_refused(await prepaid(*CREATE, **env), "PostgreSQL did not answer")
        update = ("stripe", "endpoint", "update", "we_1")
        assert_refused(await prepaid(*update, **env), "PostgreSQL did not answer")
    assert requests == []
