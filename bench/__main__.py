"""`make bench`: measures everything on embedded servers with fsync on, and prints the table.

Exit code 1 where a target is missed. `make bench ARGS=ingest` runs the named parts alone.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from bench import (
    api,
    attack,
    budgets,
    events,
    idle,
    ingest,
    isolation,
    ledger,
    operations,
    recharge,
    reconcile,
    rolling,
    wrk,
)
from bench.results import Ratio, table
from bench.setting import fresh_database
from sandbox.servers import EmbeddedServers

SECRET = "whsec_test_bench_0123456789"  # noqa: S105 - signs the benchmark's own events
Part = Callable[[Mapping[str, str], Path], Awaitable[list[Ratio]]]
PARTS: dict[str, Part] = {
    "ingest": ingest.measure,
    "events": events.measure,
    "idle": idle.measure,
    "ledger": ledger.measure,
    "budgets": budgets.measure,
    "isolation": isolation.measure,
    "growth": ledger.measure_growth,
    "burns": ledger.measure_burns,
    "recharge": recharge.measure,
    "api": api.measure,
    "rolling": rolling.measure,
    "attack": attack.measure,
    "reconcile": reconcile.measure,
    "operations": operations.measure,
}


@asynccontextmanager
async def _environment(folder: Path) -> AsyncIterator[dict[str, str]]:
    """Give the processes under test their servers: those that are set, else embedded ones."""
    fixed = {
        "STRIPE_API_KEY": "sk_test_of_the_benchmark",
        "STRIPE_WEBHOOK_SECRETS": SECRET,
        "PREPAID_DIRECT_DATABASE_URL": "",  # processes would inherit an exported one
    }
    if "DATABASE_URL" in os.environ and "REDIS_URL" in os.environ:
        yield fixed | {name: os.environ[name] for name in ("DATABASE_URL", "REDIS_URL")}
        return
    async with EmbeddedServers(folder / "home", fsync=True, keep=False) as servers:
        yield fixed | {"DATABASE_URL": servers.database_url, "REDIS_URL": servers.redis_url}


async def _run(names: list[str]) -> list[Ratio]:
    wrk.ensure_installed()
    with tempfile.TemporaryDirectory(prefix="prepaid-bench-") as name:
        folder = Path(name)
        ratios: list[Ratio] = []
        async with _environment(folder) as environment:
            for part in names:
                print(f"measuring {part} …", file=sys.stderr, flush=True)
                async with fresh_database(environment["DATABASE_URL"], part) as url:
                    ratios += await PARTS[part](environment | {"DATABASE_URL": url}, folder)
        return ratios


def main() -> int:
    """Run the named parts, or all; print the table."""
    names = sys.argv[1:] or list(PARTS)
    if unknown := set(names) - set(PARTS):
        print(f"unknown: {unknown.pop()}; there are: {', '.join(PARTS)}", file=sys.stderr)
        return 2
    ratios = asyncio.run(_run(names))
    print(table(ratios))
    return 0 if all(ratio.holds for ratio in ratios) else 1


if __name__ == "__main__":
    sys.exit(main())
