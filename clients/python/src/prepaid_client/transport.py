"""Sends requests: through httpx's blocking client, or through its asynchronous one.

What is built on a transport is written once, as coroutines. Those of `BlockingTransport` never
suspend, so that `run` drives them to their end without an event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

import httpx

T = TypeVar("T")


class Transport(Protocol):
    """What a client needs of the outside: HTTP and waiting."""

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send a request and read the whole response. Raises httpx.RequestError."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class BlockingTransport:
    """Blocks the thread."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send a request and read the whole response."""
        return self._client.send(request)

    async def sleep(self, seconds: float) -> None:
        """Wait in the caller's own thread.

        It is the pause before a request is repeated, and no event ends it: nothing says when the
        server is well again. `Retries` limits it.
        """
        time.sleep(seconds)  # noqa: ASYNC251 - no event loop runs this


class AsyncTransport:
    """Awaits in the running event loop."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send a request and read the whole response."""
        return await self._client.send(request)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends; return its result."""
    try:
        coroutine.send(None)
    except StopIteration as stopped:
        result: T = stopped.value
        return result
    coroutine.close()
    raise RuntimeError("A coroutine on a blocking transport has suspended.")
