"""From a stored event to the ledger: latency at a steady rate, drain of a backlog, memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import asyncpg

from bench import arq_jobs, ingest, wrk
from bench.results import Ratio, percentile, rates
from bench.setting import (
    baseline_server,
    create_organization,
    open_purchases,
    resident,
    reuse_wal,
)
from sandbox.product import WebProcess, WorkerProcess
from sandbox.signed_events import purchase_paid, signature
from shared.inbox import rules, store
from shared.inbox.model import Delivery
from webhooks.app import PATH

PER_SECOND = 200
SECONDS = 10
FEW_PER_SECOND = 20
COMMITS = 300
LONE_COMMITS = 100
BACKLOG = 20_000
ARQ_BACKLOG = 1_000
INSERTS = 30_000
MEBIBYTE = 1024 * 1024


async def measure(environment: Mapping[str, str], folder: Path) -> list[Ratio]:
    """Measure our worker and an arq worker with default settings, one after the other."""
    redis_url = environment["REDIS_URL"]
    organization = await create_organization(environment["DATABASE_URL"], "events")
    await reuse_wal(environment["DATABASE_URL"])
    commits = await _commits(environment["DATABASE_URL"], COMMITS)
    lone_commits = await _commits(
        environment["DATABASE_URL"], LONE_COMMITS, pause_seconds=1 / FEW_PER_SECOND
    )
    baseline = await arq_jobs.latencies(redis_url, per_second=PER_SECOND, seconds=SECONDS)
    web = WebProcess(environment, folder / "web-latency.log")
    worker = WorkerProcess(environment, folder / "worker-latency.log")
    run = _Run(web, worker, environment, organization)
    await web.start()
    await worker.start()
    try:
        few = await run.latencies("few", FEW_PER_SECOND)
        many = await run.latencies("many", PER_SECOND)
        idle = {"web": resident(web.pid), "worker": resident(worker.pid)}
        await worker.stop()
        drained_seconds = await run.drain()
        peak = {"web": resident(web.pid, peak=True), "worker": resident(worker.pid, peak=True)}
    finally:
        await worker.stop()
        await web.stop()
    arq_rate = await arq_jobs.rate(redis_url, jobs=ARQ_BACKLOG)
    inserts = await _one_insert_each(environment, folder, organization)
    rate = BACKLOG / drained_seconds
    return [
        _latency("event to ledger p50 / arq default p50", many, baseline, 0.5, 1 / 20),
        _latency("event to ledger p99 / arq default p99", many, baseline, 0.99, 1 / 10),
        _latency("the same at 20/s, p50 / one commit", few, commits, 0.5, 5),
        _latency("the same at 20/s, p50 / one commit at 20/s", few, lone_commits, 0.5, 5),
        rates("drain of 20,000 events / arq default no-op jobs", rate, arq_rate, 10),
        rates("drain, start included / one INSERT per request", rate, inserts, 1.5),
        *(_memory(f"{name} resident, idle, MiB", size, 120) for name, size in idle.items()),
        *(_memory(f"{name} resident, draining, MiB", size, 200) for name, size in peak.items()),
    ]


async def _commits(database_url: str, number: int, *, pause_seconds: float = 0.0) -> list[float]:
    """Return the seconds of each of some commits of one small row, from a connection alone.

    They follow each other at once or, like lone events, after a pause.
    """
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS commits"
        " (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text)"
    )
    seconds = []
    for _ in range(number):
        await asyncio.sleep(pause_seconds)
        began = time.monotonic()
        await connection.execute("INSERT INTO commits (body) VALUES ($1)", "x")
        seconds.append(time.monotonic() - began)
    await connection.close()
    return seconds


async def _one_insert_each(
    environment: Mapping[str, str], folder: Path, organization: str
) -> float:
    """Return the rate at which a server commits one INSERT for each request at full load."""
    requests = folder / "inserts"
    secret = environment["STRIPE_WEBHOOK_SECRETS"]
    wrk.write_requests(
        requests,
        ingest.deliveries(INSERTS, name="insert", organization=organization, secret=secret),
    )
    async with baseline_server("single", environment, folder) as url:
        load = await wrk.run(url + PATH, requests, seconds=ingest.SECONDS)
    requests.unlink()
    return load.per_second


@dataclass(frozen=True, slots=True)
class _Run:
    """The processes under test, and the organization whose purchases are paid."""

    web: WebProcess
    worker: WorkerProcess
    environment: Mapping[str, str]
    organization: str

    async def latencies(self, name: str, per_second: int) -> list[float]:
        """Deliver events at a steady rate; return the seconds from arrival to effect's commit."""
        names = [f"{name}{index}" for index in range(per_second * SECONDS)]
        await open_purchases(self.environment["DATABASE_URL"], self.organization, names)
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as deliveries:
            start = time.monotonic()
            for index, each in enumerate(names):
                await asyncio.sleep(max(0.0, start + index / per_second - time.monotonic()))
                deliveries.create_task(self._deliver(session, each))
        await _settled(self.environment)
        connection = await asyncpg.connect(self.environment["DATABASE_URL"])
        rows = await connection.fetch(
            "SELECT id, received_at FROM stripe_events WHERE id LIKE $1", f"evt_{name}%"
        )
        await connection.close()
        applied: dict[str, datetime] = {}
        while not applied.keys() >= {row["id"] for row in rows}:
            await asyncio.sleep(0.05)  # the lines of a batch follow its commit
            applied = {
                line["event_id"]: datetime.fromisoformat(line["timestamp"]).astimezone(UTC)
                for line in self.worker.log_lines()
                if line["event"] == "events.applied"
            }
        return [(applied[row["id"]] - row["received_at"]).total_seconds() for row in rows]

    async def _deliver(self, session: aiohttp.ClientSession, name: str) -> None:
        body = purchase_paid(name, organization=self.organization, padded=True)
        secret = self.environment["STRIPE_WEBHOOK_SECRETS"]
        headers = {"Stripe-Signature": signature(body, secret)}
        async with session.post(self.web.url + PATH, data=body, headers=headers) as response:
            assert response.status == 200, await response.text()

    async def drain(self) -> float:
        """Start the worker on a backlog; return the seconds from there until it is applied."""
        database_url = self.environment["DATABASE_URL"]
        names = [f"drain{index}" for index in range(BACKLOG)]
        await open_purchases(database_url, self.organization, names)
        bodies = (purchase_paid(n, organization=self.organization, padded=True) for n in names)
        deliveries = [Delivery(*rules.read_header(body), "req_bench", None) for body in bodies]
        connection = await asyncpg.connect(database_url)
        async with connection.transaction():
            for start in range(0, BACKLOG, 500):
                await store.receive(connection, deliveries[start : start + 500])
        await connection.close()
        began = time.monotonic()
        await self.worker.start()
        await _settled(self.environment)
        elapsed = time.monotonic() - began
        connection = await asyncpg.connect(database_url)
        drained = await connection.fetchval(
            "SELECT count(*) FROM stripe_events WHERE id LIKE 'evt_drain%' AND state = 'applied'"
        )
        await connection.close()
        assert drained == BACKLOG, f"{drained} of {BACKLOG} events were applied"
        return elapsed


async def _settled(environment: Mapping[str, str]) -> None:
    # Counting a backlog of thousands again and again would take a tenth of PostgreSQL's core.
    pending = "SELECT EXISTS (SELECT FROM stripe_events WHERE state IN ('received', 'retrying'))"
    connection = await asyncpg.connect(environment["DATABASE_URL"])
    while await connection.fetchval(pending):  # noqa: ASYNC110 - another process works
        await asyncio.sleep(0.02)
    await connection.close()


def _latency(
    name: str, latencies: list[float], baseline: list[float], share: float, target: float
) -> Ratio:
    measured, base = percentile(latencies, share), percentile(baseline, share)
    return Ratio(
        name,
        f"{measured * 1e3:.1f} ms",
        f"{base * 1e3:.1f} ms",
        measured / base,
        target,
        at_most=True,
    )


def _memory(name: str, size: int, target: int) -> Ratio:
    return Ratio(name, f"{size / MEBIBYTE:.0f}", "", size / MEBIBYTE, target, at_most=True)
