"""Liveness, readiness and metrics, the same in every process that listens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from shared.http.envelope import json_response

Probe = Callable[[], Awaitable[object]]
PROBE_SECONDS_MAX = 2


def routes(
    required: Mapping[str, Probe], optional: Mapping[str, Probe], measure: Probe
) -> list[web.RouteDef]:
    """Return `/healthz` (this process runs), `/readyz` (what it needs is there) and `/metrics`.

    `/readyz` is 503 while a required server is away. An optional one is reported and changes
    nothing: without Redis the inbox is drained by the worker's own sweep. `measure` is run before
    each `/metrics`, so that gauges are of that moment.
    """

    async def healthz(_request: web.Request) -> web.Response:
        return json_response({"status": "ok"})

    async def readyz(_request: web.Request) -> web.Response:
        names = [*required, *optional]
        probes = [*required.values(), *optional.values()]
        found = dict(zip(names, await asyncio.gather(*map(_probe, probes)), strict=True))
        ready = all(found[name] == "ok" for name in required)
        body = {"status": "ready" if ready else "not_ready", "checks": found}
        return json_response(body, 200 if ready else 503)

    async def metrics(_request: web.Request) -> web.Response:
        await _probe(measure)
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return [
        web.get("/healthz", healthz),
        web.get("/readyz", readyz),
        web.get("/metrics", metrics),
    ]


async def _probe(probe: Probe) -> str:
    try:
        await asyncio.wait_for(probe(), PROBE_SECONDS_MAX)
    except Exception as error:  # noqa: BLE001 - whatever a probe says, the answer is "not there"
        return type(error).__name__
    return "ok"
