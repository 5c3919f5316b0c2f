"""Assembles a web process: pool, wakeup, inbox, routes."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

import structlog

from api import app as api
from cli.sockets import OPERATIONS_PORT, Sockets
from console import app as console
from migrations.head import HEAD
from shared import outages
from shared.config import Settings
from shared.db.pool import create_pool
from shared.heartbeats import store as heartbeats
from shared.http import lag, server
from shared.http.health import Health
from shared.inbox.service import Inbox
from shared.measurements import measurements
from shared.organizations.startup import check_settings
from shared.queue.connection import connect
from shared.queue.wakeup import Wakeup
from shared.schema import store as schema
from webhooks import app as webhooks

if TYPE_CHECKING:
    from aiohttp.web import RouteDef
    from redis.asyncio import Redis

    from cli.web_process import Supervised
    from shared.db.pool import Pool
    from shared.http.stopping import Stop

log = structlog.get_logger()


async def run(
    settings: Settings,
    services: Collection[str],
    *,
    on_ready: Callable[[int], None],
    supervised: Supervised | None = None,
) -> None:
    """Serve the named services on one port until SIGTERM or SIGINT, then finish open requests.

    After SIGTERM the process is not ready and closes connections after their response, but serves
    for the drain period, so that a load balancer can notice. A second signal ends it at once.

    It starts without PostgreSQL or Redis: deliveries get a 503 until PostgreSQL is available.

    One of several processes is `supervised`: it has inherited its sockets, and is asked to stop.
    """
    stop = server.stop_signal()
    redis = connect(settings.redis_url)
    async with AsyncExitStack() as stack:
        if supervised is not None:
            await stack.enter_async_context(supervised.obeying(stop))
        pool = await stack.enter_async_context(
            create_pool(
                settings.database_url,
                size=settings.database_pool_size,
                application_name="prepaid-web",
                pooled=settings.pooled,
            )
        )
        await check_settings(pool, settings.credits_per_unit)
        replaces = supervised is not None and supervised.replaces
        await schema.check_at_start(pool, HEAD, refuse=replaces)
        probes: outages.Probes = {
            outages.POSTGRES: lambda: pool.fetchval("SELECT 1"),
            outages.REDIS: redis.ping,
        }
        await stack.enter_async_context(outages.watching(probes))
        wakeup = Wakeup(redis)
        inbox = Inbox(pool, wakeup.send)
        health = _health(settings, pool, redis, stop, supervised)
        routes = health.public_routes()
        if "webhooks" in services:
            routes += webhooks.routes(settings, inbox)
        routes += await _key_routes(stack, settings, services, pool, redis)
        sockets = await Sockets.bind(settings) if supervised is None else supervised.sockets
        operations = await _start_operations(stack, health, sockets)
        runner, port = await server.start(
            server.create_app(routes),
            sockets.public,
            descriptors_reserved=server.DESCRIPTORS_RESERVED + settings.database_pool_size,
        )
        if supervised is not None:
            publishing = supervised.processes.publishing(health.exposition)
            await stack.enter_async_context(publishing)
        async with lag.watch():
            on_ready(port)
            await stop.wait()
            if stop.replaced:
                for replaced in filter(None, (operations, runner)):
                    replaced.stop_accepting()
            drain_seconds = settings.drain_seconds if stop.drains else 0
            log.info("serve.draining", seconds=drain_seconds)
            await runner.drain(drain_seconds)
        await runner.cleanup()
        await inbox.close()
        await wakeup.close()
    await redis.aclose(close_connection_pool=True)
    log.info("serve.stopped")


async def _start_operations(
    stack: AsyncExitStack, health: Health, sockets: Sockets
) -> server.Runner | None:
    """Serve health and metrics on the port for operators; None: it is not set."""
    if not sockets.operations:
        return None
    runner, _ = await server.start(
        server.create_app(health.operations_routes()),
        sockets.operations,
        port_variable=OPERATIONS_PORT,
    )
    stack.push_async_callback(runner.cleanup)
    return runner


def _health(
    settings: Settings, pool: Pool, redis: Redis, stop: Stop, supervised: Supervised | None
) -> Health:
    return Health(
        required={
            "process": stop.check,
            "postgres": lambda: pool.fetchval("SELECT 1"),
            "schema": lambda: schema.check(pool, HEAD),
        },
        optional={"redis": redis.ping},
        operations={"workers": partial(heartbeats.check, pool)},
        measurements=measurements(pool),
        token=settings.operations_token,
        processes=None if supervised is None else supervised.processes,
    )


async def _key_routes(
    stack: AsyncExitStack, settings: Settings, services: Collection[str], pool: Pool, redis: Redis
) -> list[RouteDef]:
    """Return the routes that need an API key, and open what they need."""
    routes: list[RouteDef] = []
    if "api" in services:
        routes += api.routes(await stack.enter_async_context(api.open_api(settings, pool, redis)))
    if "console" in services:
        opened = await stack.enter_async_context(console.open_console(settings, pool))
        routes += console.routes(opened)
    return routes
