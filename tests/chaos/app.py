"""The customer's app, as far as messages to it go: it receives them, and fails now and then."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Self

from aiohttp import web

from tests.chaos.serving import serving

PATH = "/hooks"
FAILS_SHARE = 0.05  # answered 500, so that the message is sent again


class App:
    """Answers each message; `received` are the ids of those that it answered 200."""

    def __init__(self, random: Random) -> None:
        self.received: set[str] = set()
        self.url = ""
        self._random = random

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Receive messages at `url`."""
        async with serving(PATH, self._receive) as self.url:
            yield self

    async def _receive(self, request: web.Request) -> web.Response:
        await request.read()
        if self._random.random() < FAILS_SHARE:
            return web.Response(status=500)
        self.received.add(request.headers["webhook-id"].removeprefix("msg_"))
        return web.Response()
