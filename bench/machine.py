"""The machine that a benchmark ran on: what a reader needs to judge its figures."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from bench.results import percentile
from shared.db.pool import connect

COMMITS = 200
MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts about a machine just before a part was measured."""

    at: str
    revision: str
    system: str
    processor: str
    cores: int
    memory_mib: int
    load: float
    python: str
    postgresql: str
    commit_ms_p50: float
    commit_ms_p99: float


async def examine(database_url: str) -> Machine:
    """Return the facts; the time of a commit is that of an empty one with fsync, from Python."""
    load = os.getloadavg()[0]
    connection = await connect(database_url, application_name="prepaid-bench")
    postgresql = str(await connection.fetchval("SHOW server_version"))
    seconds = []
    for _ in range(COMMITS):
        began = time.perf_counter()
        await connection.execute("SELECT pg_logical_emit_message(TRUE, 'bench', '')")
        seconds.append(time.perf_counter() - began)
    await connection.close()
    return Machine(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        revision=_revision(),
        system=f"{platform.system()} {platform.release()}",
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_mib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MEBIBYTE,
        load=round(load, 2),
        python=platform.python_version(),
        postgresql=postgresql.split(maxsplit=1)[0],
        commit_ms_p50=round(median(seconds) * 1e3, 3),
        commit_ms_p99=round(percentile(seconds, 0.99) * 1e3, 3),
    )


def _revision() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def _processor() -> str:
    """Return the name of the processor as Linux knows it; on others that of its architecture."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
