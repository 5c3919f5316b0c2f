"""Probes are shared, cached and bounded; metrics are never old numbers; a token closes them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from prometheus_client import REGISTRY

from shared import metrics
from shared.http import health
from shared.http.health import Health, SharedProbe
from tests.fixtures.product import listening, send_raw

TOKEN = "a-token-of-operators"


class Server:
    """Something to be probed: there, away, or frozen until it is released."""

    def __init__(self) -> None:
        self.asked = 0
        self.frozen: asyncio.Event | None = None
        self.error: Exception | None = None

    async def __call__(self) -> None:
        self.asked += 1
        if self.frozen is not None:
            await self.frozen.wait()
        if self.error is not None:
            raise self.error


async def test_all_who_ask_at_once_share_one_run() -> None:
    """R11."""
    server = Server()
    probe = SharedProbe(server, fresh_seconds=60)
    assert await asyncio.gather(*(probe() for _ in range(100))) == ["ok"] * 100
    assert server.asked == 1
    assert await probe() == "ok"
    assert server.asked == 1


async def test_a_frozen_server_is_asked_once_however_many_wait_and_is_found_again() -> None:
    """R14: the run is not cancelled, since its cancellation would wait for the server as well."""
    server, released = Server(), asyncio.Event()
    server.frozen = released
    probe = SharedProbe(server, fresh_seconds=0, seconds_max=0.01)
    assert await asyncio.gather(*(probe() for _ in range(100))) == ["TimeoutError"] * 100
    assert await probe() == "TimeoutError"
    assert server.asked == 1
    server.frozen = None
    released.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert await probe() == "ok"


async def test_a_failure_is_named_by_its_class_alone() -> None:
    server = Server()
    server.error = OSError("secret address")
    assert await SharedProbe(server)() == "OSError"


@asynccontextmanager
async def serving(
    *, operations: bool, token: str | None = None, measure: Server | None = None, **servers: Server
) -> AsyncIterator[aiohttp.ClientSession]:
    found = Health(
        required={"postgres": servers.get("postgres", Server())},
        optional={"redis": servers.get("redis", Server())},
        operations={"workers": servers.get("workers", Server())},
        measurements=[measure or Server()],
        token=token,
    )
    routes = found.operations_routes() if operations else found.public_routes()
    async with (
        listening(routes) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
    ):
        yield client


def broken() -> Server:
    server = Server()
    server.error = OSError()
    return server


async def test_the_public_port_says_whether_it_is_ready_and_no_more() -> None:
    async with serving(operations=False, redis=broken(), workers=broken()) as client:
        async with client.get("/readyz") as answer:
            assert (answer.status, await answer.json()) == (200, {"status": "ready"})
        async with client.get("/healthz") as answer:
            assert answer.status == 200
        async with client.get("/metrics") as answer:
            assert answer.status == 404
    async with (
        serving(operations=False, postgres=broken()) as client,
        client.get("/readyz") as answer,
    ):
        assert (answer.status, await answer.json()) == (503, {"status": "not_ready"})


async def test_the_port_for_operators_is_not_ready_where_no_worker_runs() -> None:
    """R13."""
    async with (
        serving(operations=True, redis=broken(), workers=broken()) as client,
        client.get("/readyz") as answer,
    ):
        assert answer.status == 503
        checks = (await answer.json())["checks"]
        assert checks == {"postgres": "ok", "workers": "OSError", "redis": "OSError"}


@pytest.mark.parametrize("operations", [True, False])
async def test_a_token_closes_metrics_and_details_on_every_port(operations: bool) -> None:
    async with serving(operations=operations, token=TOKEN) as client:
        for wrong in ("", "Bearer", "Bearer x", f"Basic {TOKEN}", TOKEN, "Bearer ÿ"):
            async with client.get("/metrics", headers={"Authorization": wrong}) as answer:
                assert answer.status == 401
                assert TOKEN not in await answer.text()
        async with client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
            assert answer.status == 200
        async with client.get("/healthz") as answer:
            assert answer.status == 200
        async with client.get("/readyz") as answer:
            assert answer.status == (401 if operations else 200)


async def test_a_token_that_is_not_even_text_is_refused_like_any_other() -> None:
    found = Health(required={}, optional={}, operations={}, measurements=[], token=TOKEN)
    async with listening(found.operations_routes()) as port:
        sent = b"Authorization: Bearer \xff\xfe\r\n"
        assert (await send_raw(port, "GET /metrics HTTP/1.1", headers=sent)).status == 401


async def test_scrapers_at_once_measure_once() -> None:
    """R11."""
    measure = Server()
    async with serving(operations=True, measure=measure) as client:

        async def scrape() -> int:
            async with client.get("/metrics") as answer:
                return answer.status

        assert await asyncio.gather(*(scrape() for _ in range(20))) == [200] * 20
    assert measure.asked == 1


async def test_a_gauge_that_cannot_be_measured_is_dropped_and_its_age_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """R11: gauges went stale at HTTP 200."""
    monkeypatch.setattr(health, "MEASUREMENT_SECONDS_MAX", 0)
    metrics.INBOX_BACKLOG.labels("dead").set(7)
    metrics.INBOX_OLDEST_SECONDS.set(7)
    failures = REGISTRY.get_sample_value("prepaid_measurement_failures_total") or 0
    async with (
        serving(operations=True, measure=broken()) as client,
        client.get("/metrics") as answer,
    ):
        text = await answer.text()
    assert "prepaid_inbox_backlog{" not in text
    oldest = REGISTRY.get_sample_value("prepaid_inbox_oldest_seconds")
    assert oldest is not None
    assert math.isnan(oldest)
    assert REGISTRY.get_sample_value("prepaid_measurement_failures_total") == failures + 1
    age = REGISTRY.get_sample_value("prepaid_measurement_age_seconds")
    assert age is not None
    assert age > 0
