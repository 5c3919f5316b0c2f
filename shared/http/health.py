"""Liveness, readiness and metrics, the same in every process that listens."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from shared import metrics
from shared.errors import AuthenticationError, NotReadyError
from shared.http.envelope import json_response
from shared.http.processes import WebProcesses, exposition

log = structlog.get_logger()

Probe = Callable[[], Awaitable[object]]
PROBE_SECONDS_MAX = 2.0
PROBE_FRESH_SECONDS = 1.0
MEASUREMENT_FRESH_SECONDS = 3.0
# Older gauges are not exported.
MEASUREMENT_SECONDS_MAX = 30.0
OK = "ok"


class SharedProbe:
    """A probe that runs at most once at a time and whose result is cached for a moment.

    A call never takes longer than `seconds_max`. A probe that does is not cancelled, since a frozen
    server would block the cancellation too; until it ends, calls return TimeoutError at once.
    """

    def __init__(
        self,
        probe: Probe,
        *,
        fresh_seconds: float = PROBE_FRESH_SECONDS,
        seconds_max: float = PROBE_SECONDS_MAX,
    ) -> None:
        self._probe = probe
        self._fresh_seconds = fresh_seconds
        self._seconds_max = seconds_max
        self._running: asyncio.Task[str] | None = None
        self._started_at = 0.0
        self._result = ""
        self._result_at = float("-inf")

    async def __call__(self) -> str:
        """Return `ok`, or why not: the class name of the error, the detail of a NotReadyError."""
        running = self._running
        if running is None:
            if time.monotonic() - self._result_at < self._fresh_seconds:
                return self._result
            self._started_at = time.monotonic()
            running = self._running = asyncio.create_task(self._run())
        left = self._started_at + self._seconds_max - time.monotonic()
        await asyncio.wait({running}, timeout=max(left, 0))
        return running.result() if running.done() else TimeoutError.__name__

    async def _run(self) -> str:
        try:
            await self._probe()
        except NotReadyError as error:
            self._result = error.detail
        except Exception as error:  # noqa: BLE001 - any failure of a probe means "unavailable"
            self._result = type(error).__name__
        else:
            self._result = OK
        self._result_at = time.monotonic()
        self._running = None
        return self._result


class Health:
    """`/healthz`, `/readyz` and `/metrics` of a process.

    A process is not ready while a `required` server is unavailable. An `optional` one is reported
    and does not affect readiness: without Redis the worker's sweep drains the inbox. `operations`
    concern the whole installation and count on the operations port only. `measurements` run before
    each scrape, so that gauges are current.

    The public port reports readiness without details, and serves metrics only where a `token` is
    set. With a token, the operations port requires it too.

    Where several `processes` serve one port, the metrics are those of all, whichever answers.
    """

    def __init__(
        self,
        *,
        required: Mapping[str, Probe],
        optional: Mapping[str, Probe],
        operations: Mapping[str, Probe],
        measurements: Sequence[Probe],
        token: str | None,
        processes: WebProcesses | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._required = {name: SharedProbe(probe) for name, probe in required.items()}
        self._optional = {name: SharedProbe(probe) for name, probe in optional.items()}
        self._operations = {name: SharedProbe(probe) for name, probe in operations.items()}
        self._measurements = measurements
        self._monotonic = monotonic
        self._measured_at = monotonic()  # measurements are late from here on
        self._measure = SharedProbe(self._measure_all, fresh_seconds=MEASUREMENT_FRESH_SECONDS)
        self._token = token
        self._processes = processes
        metrics.MEASUREMENT_AGE_SECONDS.set_function(lambda: monotonic() - self._measured_at)

    def public_routes(self) -> list[web.RouteDef]:
        """Return the routes of the public port."""
        routes = [web.get("/healthz", _healthz), web.get("/readyz", self._readyz)]
        return routes if self._token is None else [*routes, web.get("/metrics", self._metrics)]

    def operations_routes(self) -> list[web.RouteDef]:
        """Return the routes of the operations port."""
        return [
            web.get("/healthz", _healthz),
            web.get("/readyz", self._readyz_in_detail),
            web.get("/metrics", self._metrics),
        ]

    async def _readyz(self, _request: web.Request) -> web.Response:
        results = await _run_probes(self._required)
        return _readiness(ready=_all_ok(results))

    async def _readyz_in_detail(self, request: web.Request) -> web.Response:
        self._authorize(request)
        needed = {**self._required, **self._operations}
        results = await _run_probes({**needed, **self._optional})
        ready = _all_ok({name: results[name] for name in needed})
        return _readiness(ready=ready, checks=results)

    async def exposition(self) -> bytes:
        """Return the metrics of this process, with its number where it is one of several."""
        failure = await self._measure()
        if failure != OK:
            metrics.MEASUREMENT_FAILURES.inc()
            if self._monotonic() - self._measured_at > MEASUREMENT_SECONDS_MAX:
                metrics.clear_measured()
        return exposition(None if self._processes is None else self._processes.number)

    async def _metrics(self, request: web.Request) -> web.Response:
        self._authorize(request)
        if self._processes is None:
            body = await self.exposition()
        else:
            body = await self._processes.metrics(self.exposition)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _measure_all(self) -> None:
        for measure in self._measurements:
            await measure()
        self._measured_at = self._monotonic()

    def _authorize(self, request: web.Request) -> None:
        if self._token is None:
            return
        scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
        sent = credentials.strip().encode(errors="surrogateescape")  # bytes that are not text, too
        right = hmac.compare_digest(sent, self._token.encode())
        if scheme.lower() != "bearer" or not right:
            raise AuthenticationError("Send PREPAID_OPERATIONS_TOKEN as a bearer token.")


async def _healthz(_request: web.Request) -> web.Response:
    return json_response({"status": "ok"})


def _readiness(*, ready: bool, checks: Mapping[str, str] | None = None) -> web.Response:
    body: dict[str, object] = {"status": "ready" if ready else "not_ready"}
    if checks is not None:
        body["checks"] = checks
    return json_response(body, 200 if ready else 503)


async def _run_probes(probes: Mapping[str, SharedProbe]) -> dict[str, str]:
    results = await asyncio.gather(*(probe() for probe in probes.values()))
    return dict(zip(probes, results, strict=True))


def _all_ok(results: Mapping[str, str]) -> bool:
    return all(result == OK for result in results.values())
