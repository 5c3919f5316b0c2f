"""TCP proxies between the processes and their servers: they cut, slow down or silence a link."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

CHUNK_BYTES = 64 * 1024
SLOW_SECONDS = 0.1  # for each chunk, in each direction
HOST = "127.0.0.1"


class TcpProxy:
    """A link: a port of its own, behind which a server is.

    `cut` ends what is connected. While it is `slow`, each chunk waits. While it is `silent`,
    nothing passes: connections are accepted and stay open, as behind a firewall that drops packets.
    """

    def __init__(self, upstream: str) -> None:
        self._upstream = urlsplit(upstream)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._passes = asyncio.Event()
        self._passes.set()
        self.slow = False
        self.url = ""

    async def start(self) -> None:
        """Listen on a free port; `url` is the server's address through this link."""
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        port = self._server.sockets[0].getsockname()[1]
        user, at, _ = self._upstream.netloc.rpartition("@")
        self.url = self._upstream._replace(netloc=f"{user}{at}{HOST}:{port}").geturl()

    def cut(self) -> None:
        """End every connection, without a word to either side."""
        for writer in list(self._writers):
            writer.transport.abort()

    @property
    def silent(self) -> bool:
        """Whether nothing passes."""
        return not self._passes.is_set()

    @silent.setter
    def silent(self, silent: bool) -> None:
        if silent:
            self._passes.clear()
        else:
            self._passes.set()

    async def close(self) -> None:
        """Listen no more, and end every connection."""
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._start(self._connect(reader, writer))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._passes.wait()
        try:
            there = await asyncio.open_connection(self._upstream.hostname, self._upstream.port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, there[1]}
        self._start(self._copy(reader, there[1]))
        self._start(self._copy(there[0], writer))

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await source.read(CHUNK_BYTES):
                await self._passes.wait()
                if self.slow:
                    await asyncio.sleep(SLOW_SECONDS)
                target.write(data)
                await target.drain()
        self._writers.discard(target)
        target.close()
