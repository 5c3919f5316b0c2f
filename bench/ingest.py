"""Durable ingest at full load, against the same server doing nothing and doing it row by row."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from bench import wrk
from bench.results import Ratio
from bench.setting import create_organization
from sandbox.product import WebProcess
from webhooks.app import PATH

SECONDS = 6
REQUESTS = 120_000


async def measure(environment: Mapping[str, str], folder: Path) -> list[Ratio]:
    """Run the three servers one after the other under the same load."""
    secret = environment["STRIPE_WEBHOOK_SECRETS"]
    organization = await create_organization(environment["DATABASE_URL"], "ingest")
    requests = folder / "requests"
    loads: dict[str, wrk.Load] = {}
    for name in ("noop", "single"):
        wrk.write_requests(
            requests, name=name, count=REQUESTS // 2, organization=organization, secret=secret
        )
        async with _baseline(name, environment, folder) as url:
            loads[name] = await wrk.run(url + PATH, requests, seconds=SECONDS)
    wrk.write_requests(
        requests, name="durable", count=REQUESTS, organization=organization, secret=secret
    )
    web = WebProcess(environment, folder / "web.log")
    await web.start()
    try:
        loads["durable"] = await wrk.run(web.url + PATH, requests, seconds=SECONDS)
    finally:
        await web.stop()
    requests.unlink()
    durable, noop, single = loads["durable"], loads["noop"], loads["single"]
    return [
        _rates("durable ingest / no-op", durable, noop, 0.45),
        _rates("durable ingest / one INSERT per request", durable, single, 2.2),
        Ratio(
            "durable ingest p99 / no-op p99",
            f"{durable.p99_seconds * 1e3:.1f} ms",
            f"{noop.p99_seconds * 1e3:.1f} ms",
            durable.p99_seconds / noop.p99_seconds,
            4,
            at_most=True,
        ),
    ]


def _rates(name: str, measured: wrk.Load, baseline: wrk.Load, target: float) -> Ratio:
    return Ratio(
        name,
        f"{measured.requests_per_second:,.0f}/s",
        f"{baseline.requests_per_second:,.0f}/s",
        measured.requests_per_second / baseline.requests_per_second,
        target,
    )


@asynccontextmanager
async def _baseline(kind: str, environment: Mapping[str, str], folder: Path) -> AsyncIterator[str]:
    with (folder / f"{kind}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.baseline_server", kind,
            env={**os.environ, **environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )  # fmt: skip
    assert process.stdout is not None
    try:
        yield msgspec.json.decode(await process.stdout.readline())["url"]
    finally:
        process.terminate()
        await process.wait()
