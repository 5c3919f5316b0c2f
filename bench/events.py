"""From a stored event to the ledger: latency at a steady rate, drain of a backlog, memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import asyncpg

from bench import arq_jobs
from bench.results import Ratio, percentile
from bench.setting import create_organization, open_purchases, resident
from sandbox.product import WebProcess, WorkerProcess
from sandbox.signed_events import purchase_paid, signature
from shared.inbox import rules, store
from shared.inbox.model import Delivery
from webhooks.app import PATH

PER_SECOND = 200
SECONDS = 10
BACKLOG = 20_000
ARQ_BACKLOG = 1_000
MEBIBYTE = 1024 * 1024


async def measure(environment: Mapping[str, str], folder: Path) -> list[Ratio]:
    """Measure our worker and an arq worker with default settings, one after the other."""
    redis_url = environment["REDIS_URL"]
    organization = await create_organization(environment["DATABASE_URL"], "events")
    baseline = await arq_jobs.latencies(redis_url, per_second=PER_SECOND, seconds=SECONDS)
    web = WebProcess(environment, folder / "web-latency.log")
    worker = WorkerProcess(environment, folder / "worker-latency.log")
    await web.start()
    await worker.start()
    try:
        latencies = await _latencies(web, worker, environment, organization)
        idle = {"web": resident(web.pid), "worker": resident(worker.pid)}
        drained_seconds = await _drain(worker, environment, organization)
        peak = {"web": resident(web.pid, peak=True), "worker": resident(worker.pid, peak=True)}
    finally:
        await worker.stop()
        await web.stop()
    arq_rate = await arq_jobs.rate(redis_url, jobs=ARQ_BACKLOG)
    rate = BACKLOG / drained_seconds
    return [
        _latency("event to ledger p50 / arq default p50", latencies, baseline, 0.5, 1 / 15),
        _latency("event to ledger p99 / arq default p99", latencies, baseline, 0.99, 1 / 8),
        Ratio(
            "drain of 20,000 events / arq default no-op jobs",
            f"{rate:,.0f}/s",
            f"{arq_rate:,.0f}/s",
            rate / arq_rate,
            10,
        ),
        *(_memory(f"{name} resident, idle, MiB", size, 120) for name, size in idle.items()),
        *(_memory(f"{name} resident, draining, MiB", size, 200) for name, size in peak.items()),
    ]


async def _latencies(
    web: WebProcess, worker: WorkerProcess, environment: Mapping[str, str], organization: str
) -> list[float]:
    """Deliver events at a steady rate; return the seconds from arrival to the effect's commit."""
    secret = environment["STRIPE_WEBHOOK_SECRETS"]
    names = [f"latency{index}" for index in range(PER_SECOND * SECONDS)]
    await open_purchases(environment["DATABASE_URL"], organization, names)

    async def deliver(session: aiohttp.ClientSession, name: str) -> None:
        body = purchase_paid(name, organization=organization, padded=True)
        headers = {"Stripe-Signature": signature(body, secret)}
        async with session.post(web.url + PATH, data=body, headers=headers) as response:
            assert response.status == 200, await response.text()

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as deliveries:
        start = time.monotonic()
        for index, name in enumerate(names):
            await asyncio.sleep(max(0.0, start + index / PER_SECOND - time.monotonic()))
            deliveries.create_task(deliver(session, name))
    await _settled(environment)
    connection = await asyncpg.connect(environment["DATABASE_URL"])
    rows = await connection.fetch(
        "SELECT id, received_at FROM stripe_events WHERE id LIKE 'evt_latency%'"
    )
    await connection.close()
    received = {row["id"]: row["received_at"] for row in rows}
    applied = {
        line["event_id"]: datetime.fromisoformat(line["timestamp"]).astimezone(UTC)
        for line in worker.log_lines()
        if line["event"] == "events.applied"
    }
    return [(applied[name] - moment).total_seconds() for name, moment in received.items()]


async def _drain(worker: WorkerProcess, environment: Mapping[str, str], organization: str) -> float:
    """Lay a backlog into the inbox at once; return the seconds until the worker has settled it."""
    names = [f"drain{index}" for index in range(BACKLOG)]
    await open_purchases(environment["DATABASE_URL"], organization, names)
    deliveries = []
    for index in range(BACKLOG):
        body = purchase_paid(f"drain{index}", organization=organization, padded=True)
        deliveries.append(Delivery(*rules.read_header(body), "req_bench", None))
    connection = await asyncpg.connect(environment["DATABASE_URL"])
    async with connection.transaction():
        for start in range(0, BACKLOG, 500):
            await store.receive(connection, deliveries[start : start + 500])
    began = time.monotonic()
    await connection.close()
    await _settled(environment)
    elapsed = time.monotonic() - began
    drained = sum(
        line["event"] == "events.applied" and line["event_id"].startswith("evt_drain")
        for line in worker.log_lines()
    )
    assert drained == BACKLOG, f"{drained} of {BACKLOG} events were applied"
    return elapsed


async def _settled(environment: Mapping[str, str]) -> None:
    connection = await asyncpg.connect(environment["DATABASE_URL"])
    while await store.pending(connection):  # noqa: ASYNC110 - another process works
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
