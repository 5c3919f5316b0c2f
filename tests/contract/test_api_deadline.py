"""An operation that takes too long is ended, and its caller hears it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aiohttp import web

from api.framework import edge
from api.framework.operation import Call, Handler, Operation, Reply
from shared.access.model import Scope
from shared.http.deadlines import Deadlines
from tests.fixtures.product import POOL_SIZE, connections, listening

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from tests.fixtures.api import ApiClient


async def hang(_call: Call) -> Reply:
    await asyncio.Event().wait()
    return Reply(None)


async def ask_with_no_time(api_client: ApiClient, handle: Handler) -> tuple[int, dict[str, Any]]:
    """Ask for an operation that has no time at all."""
    operation = Operation(
        name="hang",
        tag="Tests",
        method="GET",
        path="/hang",
        handle=handle,
        response=None,
        scope=Scope.READ,
        seconds_max=0,
    )
    api = replace(api_client.api, deadlines=Deadlines(tick_seconds=0.001))
    async with listening([web.get("/hang", edge.handler(api, operation))]) as port:
        url, headers = f"http://127.0.0.1:{port}/hang", {"x-api-key": api_client.key or ""}
        async with api_client.session.get(url, headers=headers) as response:
            return response.status, await response.json()


async def test_an_operation_that_takes_too_long_is_cancelled_and_answered_504(
    api_client: ApiClient,
) -> None:
    cancelled = asyncio.Event()

    async def hang_and_tell(call: Call) -> Reply:
        try:
            return await hang(call)
        finally:
            cancelled.set()

    await api_client.get("/v1/organizations")  # the key is known from here on
    status, body = await ask_with_no_time(api_client, hang_and_tell)
    assert (status, body["type"]) == (504, "timeout_error")
    assert cancelled.is_set()


async def test_a_key_that_cannot_be_looked_up_in_time_is_answered_504(
    api_client: ApiClient, pool: Pool
) -> None:
    async with connections(pool, POOL_SIZE):
        status, body = await ask_with_no_time(api_client, hang)
    assert (status, body["type"]) == (504, "timeout_error")
