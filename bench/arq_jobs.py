"""Measures the arq baseline: time from enqueue to run, and jobs a second."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from arq.connections import ArqRedis, RedisSettings, create_pool


@asynccontextmanager
async def _worker(redis_url: str) -> AsyncIterator[asyncio.StreamReader]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.baseline_arq",
        redis_url,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # arq traces its own cancellation
    )
    assert process.stdout is not None
    try:
        await process.stdout.readline()  # it takes jobs now
        yield process.stdout
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def _queue(redis_url: str) -> AsyncIterator[ArqRedis]:
    queue = await create_pool(RedisSettings.from_dsn(redis_url))
    try:
        yield queue
    finally:
        await queue.aclose()


async def latencies(redis_url: str, *, per_second: int, seconds: int) -> list[float]:
    """Return the seconds from enqueue to run of no-op jobs at a steady rate."""
    async with _queue(redis_url) as queue, _worker(redis_url) as lines:
        enqueued: dict[str, float] = {}
        start = time.time()
        for index in range(per_second * seconds):
            await asyncio.sleep(max(0.0, start + index / per_second - time.time()))
            enqueued[str(index)] = time.time()
            await queue.enqueue_job("noop", str(index))
        return [moment - enqueued[name] for name, moment in await _read(lines, len(enqueued))]


async def rate(redis_url: str, *, jobs: int) -> float:
    """Return how many no-op jobs a second a default worker runs from a backlog."""
    async with _queue(redis_url) as queue:
        for index in range(jobs):
            await queue.enqueue_job("noop", str(index))
        async with _worker(redis_url) as lines:
            moments = [moment for _, moment in await _read(lines, jobs)]
    return (jobs - 1) / (max(moments) - min(moments))


async def _read(lines: asyncio.StreamReader, count: int) -> list[tuple[str, float]]:
    jobs = []
    for _ in range(count):
        name, moment = (await lines.readline()).decode().split()
        jobs.append((name, float(moment)))
    return jobs
