"""A link passes what it gets, until it is cut or silenced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from tests.chaos.proxy import HOST, TcpProxy


@pytest.fixture
async def link() -> AsyncIterator[TcpProxy]:
    """Serve a link to a server that answers what it is sent."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    server = await asyncio.start_server(answer, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    proxy = TcpProxy(f"http://user:secret@{HOST}:{port}/hooks?a=1")
    await proxy.start()
    yield proxy
    await proxy.close()
    server.close()


async def connected(link: TcpProxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(HOST, urlsplit(link.url).port)


async def test_the_address_of_a_link_differs_in_its_port_alone(link: TcpProxy) -> None:
    assert link.url.startswith(f"http://user:secret@{HOST}:")
    assert link.url.endswith("/hooks?a=1")


async def test_a_cut_ends_what_is_connected_and_not_what_comes(link: TcpProxy) -> None:
    reader, writer = await connected(link)
    writer.write(b"one\n")
    assert await reader.readline() == b"one\n"
    link.cut()
    assert await reader.readline() == b""
    writer.close()
    reader, writer = await connected(link)
    writer.write(b"two\n")
    assert await reader.readline() == b"two\n"
    writer.close()


@pytest.mark.parametrize("is_open", [True, False])
async def test_a_silent_link_passes_everything_later(link: TcpProxy, *, is_open: bool) -> None:
    if is_open:
        reader, writer = await connected(link)
        writer.write(b"one\n")
        assert await reader.readline() == b"one\n"
    link.silent = True
    if not is_open:
        reader, writer = await connected(link)
    writer.write(b"two\n")
    answer = asyncio.create_task(reader.readline())
    _, other = await connected(link)  # it accepts all the same
    assert not answer.done()
    link.silent = False
    assert await answer == b"two\n"
    writer.close()
    other.close()


async def test_a_slow_link_passes_everything(link: TcpProxy) -> None:
    link.slow = True
    reader, writer = await connected(link)
    writer.write(b"one\n")
    assert await reader.readline() == b"one\n"
    writer.close()
