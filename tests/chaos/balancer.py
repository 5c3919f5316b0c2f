"""The load balancer in front of the web processes: it forwards Stripe's deliveries."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

import aiohttp
from aiohttp import web

from sandbox.product import WebProcess
from tests.chaos.serving import serving
from webhooks.app import PATH

TIMEOUT_SECONDS = 8.0
DUPLICATE_EVERY = 17  # every so many accepted deliveries one is sent again, to the next process


class Balancer:
    """Sends each delivery to the next web process; what nobody takes is a 502, as nginx answers.

    `acknowledged` are the events for which a web process answered 200: Stripe never sends them
    again, so that they must not be lost.
    """

    def __init__(self) -> None:
        self.webs: dict[str, WebProcess] = {}
        self.acknowledged: set[str] = set()
        self.refused: dict[int, int] = {}
        self.url = ""
        self._turns = itertools.count()
        self._http: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Take deliveries at `url`."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=timeout) as self._http,
            serving(PATH, self._deliver) as self.url,
        ):
            yield self

    async def _deliver(self, request: web.Request) -> web.Response:
        body = await request.read()
        signature = {"Stripe-Signature": request.headers["Stripe-Signature"]}
        status = await self._send(body, signature)
        if status == 200:
            self.acknowledged.add(json.loads(body)["id"])
            if len(self.acknowledged) % DUPLICATE_EVERY == 0:
                await self._send(body, signature)
        else:
            self.refused[status] = self.refused.get(status, 0) + 1
        return web.Response(status=status)

    async def _send(self, body: bytes, headers: dict[str, str]) -> int:
        """Return the status that the next process answers; 502 for none, 503 without a process."""
        webs = list(self.webs.values())
        if not webs or self._http is None:
            return 503
        url = webs[next(self._turns) % len(webs)].url + PATH
        try:
            async with self._http.post(url, data=body, headers=headers) as answer:
                await answer.read()
                return answer.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 502
