"""Runs an aiohttp application until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Sequence

import structlog
from aiohttp import web

from shared.http.body import BODY_BYTES_MAX
from shared.http.middleware import request_edge

log = structlog.get_logger()

SHUTDOWN_SECONDS_MAX = 10
KEEPALIVE_SECONDS = 75
BACKLOG = 1024


def create_app(routes: Sequence[web.RouteDef]) -> web.Application:
    """Return an application with the house's error envelope, request ids and body limit."""
    app = web.Application(middlewares=[request_edge], client_max_size=BODY_BYTES_MAX)
    app.add_routes(routes)
    return app


async def start(app: web.Application, host: str, port: int) -> tuple[web.AppRunner, int]:
    """Listen; return the runner (its `cleanup` stops it) and the port, which may have been 0."""
    # What is loaded by now lives as long as the process: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    runner = web.AppRunner(
        app,
        access_log=None,
        keepalive_timeout=KEEPALIVE_SECONDS,
        shutdown_timeout=SHUTDOWN_SECONDS_MAX,
    )
    await runner.setup()
    await web.TCPSite(runner, host, port, backlog=BACKLOG).start()
    bound_port: int = runner.addresses[0][1]
    log.info("http.listening", host=host, port=bound_port)
    return runner, bound_port


def stop_signal() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set, for a process to wait on."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
