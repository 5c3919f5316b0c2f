"""The listener of web processes, with an application of the test's own."""

from __future__ import annotations

import asyncio
import socket

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
    runner, port = await server.start(app, await server.bind("127.0.0.1", 0))
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


async def test_many_new_connections_are_accepted_one_in_each_turn_of_the_loop() -> None:
    """R15: 32 refused requests in one turn delayed a signed delivery by all of them, each turn."""
    loop = asyncio.get_running_loop()
    turn = 0
    accepted_in: list[int] = []

    def count() -> None:
        nonlocal turn
        turn += 1
        loop.call_soon(count)

    def protocol() -> asyncio.Protocol:
        accepted_in.append(turn)
        return asyncio.Protocol()

    sockets = await listener.bind("127.0.0.1", 0)
    listening = listener.Listener(sockets, protocol, list, limit=100)
    listening.start()
    clients = [socket.create_connection(sockets[0].getsockname()) for _ in range(8)]
    loop.call_soon(count)

    async def all_accepted() -> bool:
        return len(accepted_in) == len(clients)

    await until(all_accepted)
    assert len(set(accepted_in)) == len(clients)
    for client in clients:
        client.close()
    listening.close()
