"""`make bench`: measures on embedded servers with fsync on, and prints one table of all targets.

Exit code 1 where a target is missed. `make bench ARGS="ingest api"` runs the named parts alone,
`ARGS=curves` the curves, and `ROUNDS=3` says how often each part is measured. `python -m bench
pictures` draws the curves and writes the table of docs/benchmarks.md.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from bench import (
    api,
    attack,
    budgets,
    events,
    hour,
    idle,
    ingest,
    isolation,
    ledger,
    machine,
    operations,
    page,
    processes,
    recharge,
    reconcile,
    record,
    rolling,
    scaling,
    wrk,
)
from bench.curves import Curve
from bench.results import Ratio, over_rounds, table
from bench.setting import fresh_database
from sandbox.servers import EmbeddedServers

SECRET = "whsec_test_bench_0123456789"  # noqa: S105 - signs the benchmark's own events
ROUNDS_DEFAULT = 3
PICTURES = "pictures"
ALL_CURVES = "curves"
Measure = Callable[[Mapping[str, str], Path], Awaitable[Sequence[Ratio | Curve]]]
PARTS: dict[str, Measure] = {
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
    "processes": processes.measure,
    "hour": hour.measure,
    "attack": attack.measure,
    "reconcile": reconcile.measure,
    "operations": operations.measure,
    "clients": scaling.over_clients,
    "load": scaling.over_load,
    "rows": scaling.over_rows,
}
CURVES = ("clients", "load", "rows")
# Parts of minutes, which compare by turns within themselves or count failures.
ONCE = {"isolation", "growth", "burns", "rolling", "attack", "reconcile", "operations"}
# Measured where they are named: once.
NAMED = {"hour", *CURVES}


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


async def _measure(
    name: str, rounds: int, environment: Mapping[str, str], folder: Path
) -> record.Part:
    """Measure a part on a new database in each round."""
    facts = await machine.examine(environment["DATABASE_URL"])
    began = time.monotonic()
    measured: list[list[Ratio]] = []
    curves: list[Curve] = []
    for number in range(1, rounds + 1):
        _say(f"measuring {name}, round {number} of {rounds}: load {os.getloadavg()[0]:.1f} …")
        async with fresh_database(environment["DATABASE_URL"], name) as url:
            results = await PARTS[name]({**environment, "DATABASE_URL": url}, folder)
        measured.append([result for result in results if isinstance(result, Ratio)])
        curves = [result for result in results if isinstance(result, Curve)]
    seconds = round(time.monotonic() - began, 1)
    _say(f"measured {name} in {seconds:.0f} s")
    return record.Part(facts, seconds, over_rounds(measured), curves)


async def _run(names: Sequence[str], rounds: int) -> list[Ratio]:
    wrk.ensure_installed()
    with tempfile.TemporaryDirectory(prefix="prepaid-bench-") as name:
        folder = Path(name)
        ratios: list[Ratio] = []
        async with _environment(folder) as environment:
            for part in names:
                once = part in ONCE | NAMED
                results = await _measure(part, 1 if once else rounds, environment, folder)
                record.add(part, results)
                ratios += results.ratios
        return ratios


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _named(arguments: Sequence[str]) -> list[str]:
    """Return the parts that the arguments name: all that are measured, where they name none."""
    names = [
        part
        for argument in arguments or [name for name in PARTS if name not in NAMED]
        for part in (CURVES if argument == ALL_CURVES else [argument])
    ]
    if unknown := [name for name in names if name not in PARTS]:
        raise SystemExit(
            f"unknown: {unknown[0]}; there are: {', '.join([*PARTS, ALL_CURVES, PICTURES])}"
        )
    return names


def main() -> int:
    """Run the named parts, or all; print the table and write it as JSON."""
    if sys.argv[1:] == [PICTURES]:
        page.write(record.FILE)
        return 0
    names = _named(sys.argv[1:])
    rounds = int(os.environ.get("ROUNDS") or ROUNDS_DEFAULT)
    ratios = asyncio.run(_run(names, rounds))
    print(table(ratios))
    _say(f"written to {record.FILE}; python -m bench {PICTURES} brings it into the documentation")
    return 0 if all(ratio.holds for ratio in ratios) else 1


if __name__ == "__main__":
    sys.exit(main())
