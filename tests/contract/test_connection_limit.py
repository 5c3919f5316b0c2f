"""A process at its limit of open files serves who it can, and tells it once (R18)."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest_asyncio

from sandbox.product import WebProcess
from sandbox.signed_events import signature
from tests.fixtures.product import SECRET_NEW, environment, payment

if TYPE_CHECKING:
    from shared.db.pool import Pool

PATH = "/v1/webhooks/stripe"
FILES_MAX = 200
REACHED, OVER = "http.connection_limit_reached", "http.connection_limit_over"


@pytest_asyncio.fixture
async def small_web(
    database_url: str, redis_url: str, tmp_path: Path, executed_processes: None
) -> AsyncIterator[WebProcess]:
    """Start a web process that may open 200 files: a limit that it takes over from this one."""
    web = WebProcess(environment(database_url, redis_url), tmp_path / "web.log")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES_MAX, hard))
    try:
        await web.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    yield web
    await web.stop()


async def deliver(web: WebProcess, name: str) -> int:
    """Deliver an event over a connection of its own."""
    body = payment(name)
    headers = {"Stripe-Signature": signature(body, SECRET_NEW), "Connection": "close"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(web.url + PATH, data=body, headers=headers) as response,
    ):
        return response.status


def said(web: WebProcess, event: str) -> int:
    return sum(line["event"] == event for line in web.log_lines())


async def test_r18_idle_connections_give_way_to_deliveries_and_the_log_tells_it_once(
    small_web: WebProcess,
) -> None:
    port = int(small_web.url.rsplit(":", 1)[1])
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2 * FILES_MAX)]
    try:
        for number in range(10):
            assert await deliver(small_web, str(number)) == 200
        assert said(small_web, REACHED) == 1
    finally:
        for _, writer in idle:
            writer.close()
    await small_web.wait_for_log(OVER)
    assert (said(small_web, REACHED), said(small_web, OVER)) == (1, 1)


async def test_r18_where_every_connection_is_busy_new_ones_wait_and_none_is_reset(
    small_web: WebProcess, pool: Pool
) -> None:
    async with pool.acquire() as blocker, blocker.transaction():
        await blocker.execute("LOCK TABLE stripe_events IN ACCESS EXCLUSIVE MODE")
        names = [str(number) for number in range(FILES_MAX)]
        waiting = [asyncio.create_task(deliver(small_web, name)) for name in names]
        await small_web.wait_for_log(REACHED)
        assert not any(task.done() for task in waiting)
    assert set(await asyncio.gather(*waiting)) == {200}
