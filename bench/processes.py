"""Two web processes on one port: whether both are used, what they gain, and their restarts."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from bench import ingest, wrk
from bench.results import Ratio, rates
from bench.rolling import Load, Restarts, create_key, until_applied
from bench.setting import create_organization, open_purchases
from sandbox.product import WebProcess, WorkerProcess
from webhooks.app import PATH

PROCESSES = 2
SECONDS = 4
REQUESTS = 50_000
RESTARTS = 3
PURCHASES = 20_000
LANES = 4
# A client that keeps silent connections for longer than the drain meets closed ones: see the docs.
DRAIN_SECONDS = 5
IDLE_SECONDS_MAX = 2
# Two cores are shared with PostgreSQL and the load generator: a second process cannot double it.
NOT_SLOWER_MIN = 0.8
TOKEN = "a-token-of-the-benchmark"  # noqa: S105 - of a server that the benchmark starts
_RECEIVED = re.compile(
    r'prepaid_webhook_events_total\{process="\d+",result="received"\} ([\d.e+]+)'
)


async def measure(environment: Mapping[str, str], folder: Path) -> list[Ratio]:
    """Load one process, then two; then restart the two under load."""
    organization = await create_organization(environment["DATABASE_URL"], "processes")
    environment = {
        **environment,
        "PREPAID_OPERATIONS_TOKEN": TOKEN,
        "PREPAID_DRAIN_SECONDS": str(DRAIN_SECONDS),
    }
    requests = folder / "requests"
    loads: dict[int, wrk.Load] = {}
    shares: list[float] = []
    for count in (1, PROCESSES):
        wrk.write_requests(requests, _deliveries(f"of{count}-", organization, environment))
        async with _serving(environment, folder / f"web-of-{count}.log", count) as web:
            loads[count] = await wrk.run(web.url + PATH, requests, seconds=SECONDS)
            if count > 1:
                shares = await _received(web)
                restarts = await _restart(environment, folder, web, organization)
    requests.unlink()
    failed = len(restarts.failures) + len(restarts.not_applied)
    print("\n".join(restarts.failures), file=sys.stderr)
    least, fair = min(shares), sum(shares) / PROCESSES
    return [
        Ratio(
            "two processes on one port: deliveries to the less used / a fair share",
            f"{least:,.0f}",
            f"{fair:,.0f}",
            least / fair if len(shares) == PROCESSES else 0.0,
            0.5,
        ),
        rates(
            "durable ingest, two processes / one",
            loads[PROCESSES].per_second,
            loads[1].per_second,
            NOT_SLOWER_MIN,
        ),
        Ratio(
            "failed requests and events in rolling restarts by SIGHUP",
            f"{failed} of {restarts.answered + restarts.events:,}",
            f"{RESTARTS} restarts",
            failed,
            0,
            at_most=True,
        ),
    ]


def _deliveries(name: str, organization: str, environment: Mapping[str, str]) -> Iterator[bytes]:
    secret = environment["STRIPE_WEBHOOK_SECRETS"]
    return ingest.deliveries(REQUESTS, name=name, organization=organization, secret=secret)


@asynccontextmanager
async def _serving(
    environment: Mapping[str, str], log_file: Path, processes: int
) -> AsyncIterator[WebProcess]:
    web = WebProcess(environment, log_file, processes=processes)
    await web.start()
    try:
        yield web
    finally:
        await web.stop()


async def _received(web: WebProcess) -> list[float]:
    """Return how many deliveries each process has counted."""
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as http,
        http.get(f"{web.url}/metrics") as response,
    ):
        return [float(count) for count in _RECEIVED.findall(await response.text())]


@dataclass(frozen=True, slots=True)
class _OnePort:
    """Sends each request once, to whichever process accepts it."""

    url: str
    http: aiohttp.ClientSession

    async def post(self, path: str, body: bytes, headers: dict[str, str]) -> int:
        async with self.http.post(self.url + path, data=body, headers=headers) as response:
            await response.read()
            return response.status


async def _restart(
    environment: Mapping[str, str], folder: Path, web: WebProcess, organization: str
) -> Restarts:
    names = [f"sighup{number}" for number in range(PURCHASES)]
    await open_purchases(environment["DATABASE_URL"], organization, names)
    key = await create_key(environment["DATABASE_URL"])
    restarts = Restarts()
    worker = WorkerProcess(environment, folder / "worker-processes.log")
    await worker.start()
    try:
        connector = aiohttp.TCPConnector(keepalive_timeout=IDLE_SECONDS_MAX)
        async with aiohttp.ClientSession(connector=connector) as http:
            port, secret = _OnePort(web.url, http), environment["STRIPE_WEBHOOK_SECRETS"]
            load = Load(port, restarts, organization, key, secret, iter(names))
            async with asyncio.TaskGroup() as tasks:
                lanes = [tasks.create_task(load.lane(number)) for number in range(LANES)]
                for finished in range(1, RESTARTS + 1):
                    os.kill(web.pid, signal.SIGHUP)
                    await _until_restarted(web, finished)
                for lane in lanes:
                    lane.cancel()
            # Requests that were under way when their lane ended still need the session.
            await until_applied(environment["DATABASE_URL"], restarts)
    finally:
        await worker.stop()
    return restarts


async def _until_restarted(web: WebProcess, times: int) -> None:
    def finished() -> int:
        return sum(line["event"] == "serve.restarted" for line in web.log_lines())

    async with asyncio.timeout(120):
        while await asyncio.to_thread(finished) < times:  # noqa: ASYNC110 - it is in a log
            await asyncio.sleep(0.1)
