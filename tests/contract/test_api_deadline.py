"""An operation that takes too long is ended, and its caller hears it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.test_utils import TestServer

from api import edge
from api.operation import Call, Operation, Reply
from shared.access.model import Scope
from shared.http.deadlines import Deadlines
from shared.http.server import create_app

if TYPE_CHECKING:
    from tests.fixtures.api import ApiClient


async def test_an_operation_that_takes_too_long_is_cancelled_and_answered_504(
    api_client: ApiClient,
) -> None:
    cancelled = asyncio.Event()

    async def hang(_call: Call) -> Reply:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return Reply(None)

    operation = Operation(
        name="hang",
        tag="Tests",
        method="GET",
        path="/hang",
        handle=hang,
        answer=None,
        scope=Scope.READ,
        seconds_max=0,
    )
    api = replace(api_client.api, deadlines=Deadlines(tick_seconds=0.001))
    server = TestServer(create_app([web.get("/hang", edge.handler(api, operation))]))
    await server.start_server(access_log=None)
    try:
        headers = {"x-api-key": api_client.key or ""}
        async with api_client.session.get(server.make_url("/hang"), headers=headers) as response:
            body = await response.json()
    finally:
        await server.close()
    assert response.status == 504
    assert body["type"] == "timeout_error"
    assert cancelled.is_set()
