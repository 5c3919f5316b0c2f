"""The listener of web processes, with an application of the test's own."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from shared.http import listener, server
from tests.fixtures.product import until

ANSWER_BYTES = 64 * 1024 * 1024


async def connections_are(runner: server.Runner, number: int) -> bool:
    assert isinstance(runner.server, web.Server)
    return len(runner.server.connections) == number


async def test_a_client_that_takes_nothing_of_its_answer_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listener, "STALL_SECONDS_MAX", 0.05)

    async def large(_request: web.Request) -> web.Response:
        return web.Response(body=bytearray(ANSWER_BYTES))

    async def small(_request: web.Request) -> web.Response:
        return web.Response(text="small")

    app = server.create_app([web.get("/large", large), web.get("/small", small)])
    runner, port = await server.start(app, "127.0.0.1", 0)
    try:
        _stalled, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        idle, idle_writer = await asyncio.open_connection("127.0.0.1", port)
        await until(lambda: connections_are(runner, 2))
        writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: connections_are(runner, 1))
        idle_writer.write(b"GET /small HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await idle.read()).endswith(b"small")
        writer.close()
        idle_writer.close()
    finally:
        await runner.cleanup()
