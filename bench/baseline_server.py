"""The servers that ours is compared with: the same application, with less done in the handler.

`noop` reads the body, if there is one, and answers. `single` does what the webhook endpoint does,
but with one INSERT and one commit for each request.
"""

from __future__ import annotations

import json
import sys
import time

import uvloop
from aiohttp import web

from cli.environment import load_settings
from shared import logging
from shared.db.pool import create_pool
from shared.http import server
from shared.http.envelope import json_response
from shared.http.middleware import REQUEST_ID_KEY
from shared.inbox import rules, store
from shared.inbox.model import Delivery
from shared.payments import signature
from webhooks.app import PATH

SINGLE_CONNECTIONS = 8
DEBIT_PATH = "/api/credit-transactions"
BALANCE_PATH = "/v1/billing/{organizationId}/credits"


async def _run(kind: str) -> None:
    settings = load_settings()
    logging.configure(settings.log_format, settings.log_level)
    async with create_pool(
        settings.database_url, size=SINGLE_CONNECTIONS, application_name="prepaid-bench"
    ) as pool:

        async def noop(request: web.Request) -> web.Response:
            await request.read()
            return json_response({"received": True})

        async def single(request: web.Request) -> web.Response:
            signed_by = signature.check_header(
                request.headers.get("Stripe-Signature"), unix_now=int(time.time())
            )
            body = await request.read()
            signature.verify(body, signed_by, settings.stripe_webhook_secrets)
            header, payload = rules.read_header(body)
            delivery = Delivery(header, payload, request[REQUEST_ID_KEY], None)
            async with pool.acquire() as connection:
                await store.receive(connection, [delivery])
            return json_response({"received": True})

        routes = {
            "noop": [
                web.post(PATH, noop),
                web.post(DEBIT_PATH, noop),
                web.get(BALANCE_PATH, noop),
            ],
            "single": [web.post(PATH, single)],
        }
        stop = server.stop_signal()
        app = server.create_app(routes[kind])
        runner, port = await server.start(app, await server.bind("127.0.0.1", 0))
        sys.stdout.write(json.dumps({"url": f"http://127.0.0.1:{port}"}) + "\n")
        sys.stdout.flush()
        await stop.wait()
        await runner.cleanup()


if __name__ == "__main__":
    uvloop.run(_run(sys.argv[1]))
