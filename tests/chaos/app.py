"""The customer's app, as far as messages to it go: it receives them, and fails now and then."""

from __future__ import annotations

from random import Random
from types import TracebackType
from typing import Self

from aiohttp import web

HOST = "127.0.0.1"
PATH = "/hooks"
FAILS_SHARE = 0.05  # answered 500, so that the message is sent again


class App:
    """Answers each message; `received` are the ids of those that it answered 200."""

    def __init__(self, random: Random) -> None:
        self.received: set[str] = set()
        self.url = ""
        self._random = random
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_post(PATH, self._receive)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, 0).start()
        self.url = f"http://{HOST}:{self._runner.addresses[0][1]}{PATH}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _receive(self, request: web.Request) -> web.Response:
        await request.read()
        if self._random.random() < FAILS_SHARE:
            return web.Response(status=500)
        self.received.add(request.headers["webhook-id"].removeprefix("msg_"))
        return web.Response()
