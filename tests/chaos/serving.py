"""Serves one path of a run on a loopback port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.test_utils import TestServer


@asynccontextmanager
async def serving(
    path: str, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> AsyncIterator[str]:
    """Serve POST requests of a path; yield its URL."""
    application = web.Application()
    application.router.add_post(path, handler)
    async with TestServer(application) as server:
        yield str(server.make_url(path))
