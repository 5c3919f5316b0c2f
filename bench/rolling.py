"""A rolling restart of two web and two worker processes under load: nothing fails or is late."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import aiohttp

from bench.results import Ratio
from bench.setting import create_organization, open_purchases
from sandbox.product import ProductProcess, WebProcess, WorkerProcess
from sandbox.signed_events import purchase_paid, signature
from shared.access import service as access
from shared.db.pool import connect
from webhooks.app import PATH

ROUNDS = 10
PURCHASES = 20_000
LANES = 4
PAUSE_SECONDS = 0.05  # of a lane, between two requests
DRAIN_SECONDS = 2
PROBE_SECONDS = 0.05
SETTLED_SECONDS_MAX = 60
LATE_SECONDS_MAX = 5


@dataclass
class Restarts:
    """What became of the requests and events of a rolling restart."""

    answered: int = 0
    failures: list[str] = field(default_factory=list)
    accepted: set[str] = field(default_factory=set)
    not_applied: set[str] = field(default_factory=set)
    latest_seconds: float = 0.0

    @property
    def events(self) -> int:
        return len(self.accepted)


class Balancer:
    """Sends each request to a web process that was ready a moment ago, and tries none twice."""

    def __init__(self, webs: list[WebProcess], http: aiohttp.ClientSession) -> None:
        self._webs = webs
        self._http = http
        self._ready = list(webs)
        self._turns = itertools.count()

    async def watch(self) -> None:
        """Ask each process whether it is ready, again and again."""
        while True:
            answers = await asyncio.gather(*map(self._is_ready, self._webs))
            self._ready = [w for w, ready in zip(self._webs, answers, strict=True) if ready]
            await asyncio.sleep(PROBE_SECONDS)

    async def until_ready(self, web: WebProcess) -> None:
        while web not in self._ready:  # noqa: ASYNC110 - `watch` finds out
            await asyncio.sleep(PROBE_SECONDS)

    async def post(self, path: str, body: bytes, headers: dict[str, str]) -> int:
        web = self._ready[next(self._turns) % len(self._ready)]
        async with self._http.post(web.url + path, data=body, headers=headers) as response:
            await response.read()
            return response.status

    async def _is_ready(self, web: WebProcess) -> bool:
        try:
            async with self._http.get(f"{web.url}/readyz") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False


async def measure(environment: Mapping[str, str], folder: Path) -> list[Ratio]:
    """Restart all four processes ten times."""
    secret = environment["STRIPE_WEBHOOK_SECRETS"]
    restarts = await restart(environment, folder, secret, rounds=ROUNDS, purchases=PURCHASES)
    failed = len(restarts.failures) + len(restarts.not_applied)
    return [
        Ratio(
            f"failed of {restarts.answered:,} requests and {restarts.events:,} events in {ROUNDS}"
            " rolling restarts",
            f"{failed}",
            "",
            failed,
            0,
            at_most=True,
        ),
        Ratio(
            "latest event in them / 5 s",
            f"{restarts.latest_seconds:.2f} s",
            f"{LATE_SECONDS_MAX} s",
            restarts.latest_seconds / LATE_SECONDS_MAX,
            1,
            at_most=True,
        ),
    ]


async def restart(
    environment: Mapping[str, str], folder: Path, secret: str, *, rounds: int, purchases: int
) -> Restarts:
    """Restart each process in turn while debits and events come, so many times; say what came."""
    organization = await create_organization(environment["DATABASE_URL"], "rolling")
    names = [f"rolling{number}" for number in range(purchases)]
    await open_purchases(environment["DATABASE_URL"], organization, names)
    key = await create_key(environment["DATABASE_URL"])
    restarts = Restarts()
    async with (
        _fleet(environment, folder) as (webs, workers),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        balancer = Balancer(webs, http)
        load = Load(balancer, restarts, organization, key, secret, iter(names))
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(balancer.watch())]
            running += [tasks.create_task(load.lane(number)) for number in range(LANES)]
            for _ in range(rounds):
                for web, worker in zip(webs, workers, strict=True):
                    await _again(web)
                    await balancer.until_ready(web)
                    await _again(worker)
            for task in running:
                task.cancel()
        await until_applied(environment["DATABASE_URL"], restarts)
    return restarts


async def _again(process: ProductProcess) -> None:
    code = await process.stop()
    assert code == 0, process.log_tail()
    # Whether it is ready is read in its log: in a new one.
    process.log_file = process.log_file.with_name(f"again-{process.log_file.name}")
    await process.start()


class Sender(Protocol):
    """Sends a request to a web process; returns the status."""

    async def post(self, path: str, body: bytes, headers: dict[str, str]) -> int: ...


@dataclass
class Load:
    """Debits and deliveries by turns, in lanes."""

    balancer: Sender
    restarts: Restarts
    organization: str
    key: str
    secret: str
    names: Iterator[str]

    async def lane(self, number: int) -> None:
        """Debit and deliver by turns until cancelled; a request under way is awaited."""
        for turn in itertools.count():
            await asyncio.shield(self._debit(f"{number}-{turn}"))
            await asyncio.shield(self._deliver())
            await asyncio.sleep(PAUSE_SECONDS)

    async def _debit(self, name: str) -> None:
        body = (
            f'{{"organizationId":"{self.organization}","amount":-0.001,'
            f'"onInsufficient":"refuse","transactionId":"{name}"}}'
        ).encode()
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        # 402 until the first purchase is applied: an answer like any other.
        await self._send("/api/credit-transactions", body, headers, {200, 402})

    async def _deliver(self) -> None:
        name = next(self.names)
        body = purchase_paid(name, organization=self.organization)
        headers = {"Stripe-Signature": signature(body, self.secret)}
        if await self._send(PATH, body, headers, {200}):
            self.restarts.accepted.add(f"evt_{name}")

    async def _send(
        self, path: str, body: bytes, headers: dict[str, str], expected: set[int]
    ) -> bool:
        try:
            status = await self.balancer.post(path, body, headers)
        except (aiohttp.ClientError, OSError, IndexError) as error:
            self.restarts.failures.append(f"{path}: {error!r}")
            return False
        self.restarts.answered += 1
        if status not in expected:
            self.restarts.failures.append(f"{path}: {status}")
        return status in expected


@asynccontextmanager
async def _fleet(
    environment: Mapping[str, str], folder: Path
) -> AsyncIterator[tuple[list[WebProcess], list[WorkerProcess]]]:
    drained = {**environment, "PREPAID_DRAIN_SECONDS": str(DRAIN_SECONDS)}
    webs = [WebProcess(drained, folder / f"rolling-web-{n}.log") for n in range(2)]
    workers = [WorkerProcess(environment, folder / f"rolling-worker-{n}.log") for n in range(2)]
    async with AsyncExitStack() as stack:
        for process in (*webs, *workers):
            stack.push_async_callback(process.stop)
        for process in (*webs, *workers):  # all at once they are not ready in time on two cores
            await process.start()
        yield webs, workers


async def create_key(database_url: str) -> str:
    connection = await connect(database_url, application_name="prepaid-bench")
    made = await access.create_key(connection, name="rolling", scope="write", organization_id=None)
    await connection.close()
    return str(made["key"])


async def until_applied(database_url: str, restarts: Restarts) -> None:
    """Wait until what was accepted is applied; take the longest that one of them took."""
    connection = await connect(database_url, application_name="prepaid-bench")
    with suppress(TimeoutError):
        async with asyncio.timeout(SETTLED_SECONDS_MAX):
            while True:
                rows = await connection.fetch(
                    "SELECT id, extract(epoch FROM settled_at - received_at)::float8 AS seconds"
                    " FROM stripe_events WHERE state = 'applied'"
                )
                restarts.not_applied = restarts.accepted - {row["id"] for row in rows}
                if not restarts.not_applied:
                    break
                await asyncio.sleep(PROBE_SECONDS)
    restarts.latest_seconds = max((row["seconds"] for row in rows), default=0.0)
    await connection.close()
