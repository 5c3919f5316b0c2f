"""How rates change with clients, latencies with load, and times with rows: the curves."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from bench import api, ingest, ledger, wrk
from bench.curves import Curve, Series
from bench.setting import baseline_server, create_organization, reuse_wal
from sandbox.product import WebProcess
from shared.db.pool import connect
from webhooks.app import PATH

SECONDS = 2
CLIENTS = (1, 2, 4, 8, 16, 32, 64)
LOADS = (10, 20, 30, 40, 50, 60, 70, 80, 90)
# CURVE_ROWS=10000000 for the longest line: half an hour.
SIZES_MAX = int(os.environ.get("CURVE_ROWS", "1000000"))
SIZES = tuple(size for size in (10_000, 100_000, 1_000_000, 10_000_000) if size <= SIZES_MAX)
POSTED_AT_ONCE = 1_000
Requests = Callable[[], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class _Target:
    """A web process and the server that does nothing, with requests for both."""

    requests_file: Path
    kinds: Mapping[str, tuple[str, Requests]]

    async def run(
        self, kind: str, connections: int = wrk.CONNECTIONS, per_second: float | None = None
    ) -> wrk.Load:
        """Send new requests of a kind for some seconds."""
        url, requests = self.kinds[kind]
        wrk.write_requests(self.requests_file, requests())
        return await wrk.run(
            url, self.requests_file, seconds=SECONDS, connections=connections, per_second=per_second
        )


@asynccontextmanager
async def _target(environment: Mapping[str, str], folder: Path) -> AsyncIterator[_Target]:
    environment = {**environment, "PREPAID_REQUESTS_PER_MINUTE": "0"}
    customer = await api.create_customer(environment["DATABASE_URL"])
    await reuse_wal(environment["DATABASE_URL"])
    web = WebProcess(environment, folder / "web-scaling.log")
    await web.start()
    turns = itertools.count()

    def deliveries() -> Iterator[bytes]:
        return ingest.deliveries(
            20_000 * SECONDS,
            name=f"scaling{next(turns)}-",
            organization=str(customer.id),
            secret=environment["STRIPE_WEBHOOK_SECRETS"],
        )

    def debits() -> Iterator[bytes]:
        return api.debit_requests(customer, 10_000 * SECONDS)

    try:
        async with baseline_server("noop", environment, folder) as noop_url:
            kinds: dict[str, tuple[str, Requests]] = {
                "no-op": (noop_url, debits),
                "durable ingest": (web.url + PATH, deliveries),
                "single debits": (web.url, debits),
                "balance reads": (web.url, lambda: api.balance_requests(customer)),
            }
            yield _Target(folder / "requests", kinds)
    finally:
        await web.stop()


async def over_clients(environment: Mapping[str, str], folder: Path) -> list[Curve]:
    """Return the rate of each kind of request with 1 to 64 connections."""
    points: dict[str, list[tuple[float, float]]] = {}
    async with _target(environment, folder) as target:
        for clients in CLIENTS:
            for kind in target.kinds:
                load = await target.run(kind, connections=clients)
                points.setdefault(kind, []).append((clients, round(load.per_second, 1)))
            _progress(f"{clients} clients")
    return [
        Curve(
            "clients",
            "Rate against clients: one web process, one hot organization",
            "connections of the load generator",
            "requests a second",
            _series(points),
            x_base=2,
        )
    ]


async def over_load(environment: Mapping[str, str], folder: Path) -> list[Curve]:
    """Return p50 and p99 of debits, and of doing nothing, at shares of the highest rate."""
    points: dict[str, list[tuple[float, float]]] = {}
    async with _target(environment, folder) as target:
        most = (await target.run("single debits")).per_second
        for share in LOADS:
            for kind in ("single debits", "no-op"):
                load = await target.run(kind, per_second=most * share / 100)
                for name, seconds in (("p50", load.p50_seconds), ("p99", load.p99_seconds)):
                    milliseconds = round(seconds * 1e3, 3)
                    points.setdefault(f"{kind}, {name}", []).append((share, milliseconds))
            _progress(f"{share} % of {most:,.0f}/s")
    return [
        Curve(
            "load",
            f"Latency against load: single debits, highest rate {most:,.0f}/s",
            "per cent of the highest rate, at random moments",
            "milliseconds",
            _series(points),
            y_base=10,
        )
    ]


async def over_rows(environment: Mapping[str, str], _folder: Path) -> list[Curve]:
    """Return the best time of what an app does most, while the ledger grows."""
    url = environment["DATABASE_URL"]
    owner = UUID(await create_organization(url, "growing"))
    connection = await connect(url, application_name="prepaid-bench", statement_seconds_max=600)
    points: dict[str, list[tuple[float, float]]] = {}
    try:
        await ledger.grant(connection, [owner])
        rows = 0
        for size in SIZES:
            while rows < size:
                await ledger.post(connection, [owner] * POSTED_AT_ONCE)
                rows += POSTED_AT_ONCE
                if rows % 100_000 == 0:
                    _progress(f"{rows:,} rows")
            await connection.execute("VACUUM ANALYZE")
            work = await ledger.jobs(connection, owner)
            for name, seconds in zip(work, await ledger.best_of(*work.values()), strict=True):
                points.setdefault(name, []).append((size, round(seconds * 1e3, 4)))
    finally:
        await connection.close()
    return [
        Curve(
            "rows",
            "Time against rows: one organization with all transactions",
            "transactions in the ledger",
            "milliseconds",
            _series(points),
            x_base=10,
            y_base=10,
        )
    ]


def _series(points: Mapping[str, list[tuple[float, float]]]) -> tuple[Series, ...]:
    return tuple(Series(name, tuple(line)) for name, line in points.items())


def _progress(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)
