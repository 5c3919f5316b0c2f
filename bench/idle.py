"""What an idle installation costs: the processor time of each process, with all loops running."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

from bench.results import Ratio
from bench.setting import create_organization, processor_seconds
from sandbox.product import WebProcess, WorkerProcess
from shared.queue.connection import connect

SETTLING_SECONDS = 5
SECONDS = 30
# Per cent of a core.
TARGETS = {"worker": 1.0, "web": 0.3, "Valkey": 0.3}


async def measure(environment: Mapping[str, str], folder: Path) -> list[Ratio]:
    """Run a worker and a web process without work; return what each takes of a core."""
    await create_organization(environment["DATABASE_URL"], "idle")
    web = WebProcess(environment, folder / "web-idle.log")
    worker = WorkerProcess(environment, folder / "worker-idle.log")
    await web.start()
    await worker.start()
    try:
        await asyncio.sleep(SETTLING_SECONDS)
        processes = {
            "worker": worker.pid,
            "web": web.pid,
            "Valkey": await _redis_process(environment["REDIS_URL"]),
        }
        began = time.monotonic()
        before = {name: processor_seconds(pid) for name, pid in processes.items()}
        await asyncio.sleep(SECONDS)
        elapsed = time.monotonic() - began
        used = {name: processor_seconds(pid) - before[name] for name, pid in processes.items()}
    finally:
        await worker.stop()
        await web.stop()
    return [
        _share(f"idle {name}, per cent of a core", used[name] / elapsed, target)
        for name, target in TARGETS.items()
    ]


async def _redis_process(redis_url: str) -> int:
    client = connect(redis_url)
    server = await client.info("server")
    await client.aclose(close_connection_pool=True)
    return int(server["process_id"])


def _share(name: str, share: float, target: float) -> Ratio:
    return Ratio(name, f"{share:.2%}", "", share * 100, target, at_most=True)
