"""How a web process ends: not ready first, then each connection told, and no request lost (R17)."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import aiohttp
import pytest

from bench import rolling
from sandbox.product import WebProcess
from sandbox.signed_events import signature
from tests.fixtures.product import SECRET_NEW, environment, payment, read_answer, until

PATH = "/v1/webhooks/stripe"


async def test_r17_a_stopping_process_is_not_ready_and_tells_each_connection_to_close(
    database_url: str, redis_url: str, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    env = environment(database_url, redis_url) | {"PREPAID_DRAIN_SECONDS": "600"}
    web = WebProcess(env, tmp_path / "web.log")
    await web.start()
    async with client.get(f"{web.url}/readyz") as response:
        assert response.status == 200
        assert response.headers.get("Connection") != "close"
    os.kill(web.pid, signal.SIGTERM)

    async def is_not_ready() -> bool:
        async with client.get(f"{web.url}/readyz") as response:
            return response.status == 503

    await until(is_not_ready)
    body = payment("1")
    headers = {"Stripe-Signature": signature(body, SECRET_NEW)}
    async with client.post(web.url + PATH, data=body, headers=headers) as response:
        assert response.status == 200
        assert response.headers["Connection"] == "close"
    os.kill(web.pid, signal.SIGTERM)  # a second one ends it at once
    assert await web.wait() == -signal.SIGTERM


async def test_r17_a_request_that_has_begun_when_the_process_stops_is_answered(
    web: WebProcess,
) -> None:
    port = int(web.url.rsplit(":", 1)[1])
    opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
    for reader, writer in opened:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await read_answer(reader)).status == 200
    os.kill(web.pid, signal.SIGSTOP)
    for _, writer in opened:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        await writer.drain()
    os.kill(web.pid, signal.SIGTERM)
    os.kill(web.pid, signal.SIGCONT)
    for reader, writer in opened:
        assert (await read_answer(reader)).status == 200
        assert await reader.read() == b""
        writer.close()
    assert await web.wait() == 0


@pytest.mark.timeout(300)  # it starts eight processes
async def test_r17_a_rolling_restart_under_load_loses_no_request_and_no_event(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    env = environment(database_url, redis_url)
    found = await rolling.restart(env, tmp_path, SECRET_NEW, rounds=1, purchases=3000)
    assert found.failures == []
    assert found.answered > 0
    assert found.events > 0
    assert found.not_applied == set()
