"""An hour at half of the capacity: memory of web and worker, and which tables and indexes grow.

`make bench ARGS=hour MINUTES=60`. Each minute sends requests of its own: six debits, three balance
reads and a delivery of a paid checkout, again and again. `PER_SECOND` sets another rate than half.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bench import api, wrk
from bench.curves import Curve, Series
from bench.results import Ratio
from bench.setting import open_purchases, resident
from sandbox.product import WebProcess, WorkerProcess
from sandbox.signed_events import purchase_paid, signature
from shared.db.pool import connect
from shared.inbox import store
from webhooks.app import PATH

if TYPE_CHECKING:
    from shared.db.pool import Connection

MINUTES = int(os.environ.get("MINUTES", "60"))
PER_SECOND = float(os.environ.get("PER_SECOND", "0"))
CAPACITY_SECONDS = 10
CAPACITY_REQUESTS = 60_000
CONNECTIONS = 32
# Of each ten requests.
DEBITS, READS, DELIVERIES = 6, 3, 1
RESIDENT_MIB_MAX = 150
# Memory of the last quarter over that of the quarter before: what allocators give and take.
GROWTH_MAX = 1.03
MEBIBYTE = 1024 * 1024
# What a table or an index may grow beyond its rows: a page is added before it is full.
SLACK_BYTES, SLACK_SHARE = MEBIBYTE, 1.25

_RELATIONS = """
SELECT
    c.relname AS name,
    greatest(c.reltuples, 0)::float8 AS entries,
    pg_total_relation_size(c.oid)::bigint
    - CASE WHEN c.relkind = 'r' THEN pg_indexes_size(c.oid) ELSE 0 END AS bytes
FROM pg_class AS c
WHERE c.relkind IN ('r', 'i') AND c.relnamespace = 'public'::regnamespace
ORDER BY c.relname
"""


@dataclass(frozen=True, slots=True)
class Relation:
    """A table without its indexes, or an index: its entries and its size."""

    entries: float
    size: int


@dataclass(frozen=True, slots=True)
class _Minute:
    web_mib: float
    worker_mib: float
    per_second: float
    p99_ms: float
    pending: int
    database_mib: float


def grown_without_rows(before: Mapping[str, Relation], after: Mapping[str, Relation]) -> list[str]:
    """Return what grew by more than its entries explain, with its sizes."""
    grown = []
    for name, new in after.items():
        old = before.get(name, Relation(0, 0))
        factor = max(new.entries, 1) / max(old.entries, 1)
        if new.size > max(old.size * factor, old.size) * SLACK_SHARE + SLACK_BYTES:
            grown.append(
                f"{name} {old.size / MEBIBYTE:.1f} to {new.size / MEBIBYTE:.1f} MiB,"
                f" {old.entries:,.0f} to {new.entries:,.0f} entries"
            )
    return grown


async def measure(environment: Mapping[str, str], folder: Path) -> list[Ratio | Curve]:
    """Run the load; return what grew, and the minutes as a curve."""
    environment = {**environment, "PREPAID_REQUESTS_PER_MINUTE": "0"}
    customer = await api.create_customer(environment["DATABASE_URL"])
    web = WebProcess(environment, folder / "web-hour.log")
    worker = WorkerProcess(environment, folder / "worker-hour.log")
    connection = await connect(environment["DATABASE_URL"], application_name="prepaid-bench")
    await web.start()
    await worker.start()
    try:
        load = _Load(environment, customer, web, folder)
        per_second = PER_SECOND or await load.capacity() / 2
        minutes: list[_Minute] = []
        relations: list[dict[str, Relation]] = []
        for number in range(1, MINUTES + 1):
            sent = await load.minute(per_second)
            minutes.append(await _sample(connection, web, worker, sent))
            _print(number, minutes[-1])
            if number in {(MINUTES + 1) // 2, MINUTES}:
                relations.append(await _relations(connection))
        grown = grown_without_rows(relations[0], relations[-1])
        print(f"  grown without rows: {grown}", file=sys.stderr)
    finally:
        await worker.stop()
        await web.stop()
        await connection.close()
    return [*_ratios(minutes, grown, per_second), *_curves(minutes)]


class _Load:
    """Sends a minute's requests while the next minute's are written."""

    def __init__(
        self,
        environment: Mapping[str, str],
        customer: api.Customer,
        web: WebProcess,
        folder: Path,
    ) -> None:
        self._environment = environment
        self._customer = customer
        self._web = web
        self._files = itertools.cycle([folder / "hour-a", folder / "hour-b"])
        self._turns = itertools.count()
        self._next: asyncio.Task[Path] | None = None

    async def capacity(self) -> float:
        """Return the requests a second that are answered with nothing held back."""
        file = await self._write(CAPACITY_REQUESTS)
        sent = await wrk.run(self._web.url, file, seconds=CAPACITY_SECONDS, connections=CONNECTIONS)
        return sent.per_second

    async def minute(self, per_second: float) -> wrk.Load:
        """Send requests for a minute at this rate."""
        count = int(per_second * 60 * 1.2)
        file = await (self._next or self._write(count))
        self._next = asyncio.create_task(self._write(count))
        return await wrk.run(
            self._web.url, file, seconds=60, connections=CONNECTIONS, per_second=per_second
        )

    async def _write(self, count: int) -> Path:
        turn, file = next(self._turns), next(self._files)
        names = [f"hour{turn}-{number}" for number in range(count // 10 + 1)]
        url = self._environment["DATABASE_URL"]
        await open_purchases(url, str(self._customer.id), names)
        await asyncio.to_thread(wrk.write_requests, file, self._requests(names))
        return file

    def _requests(self, names: Sequence[str]) -> Iterator[bytes]:
        debits = api.debit_requests(self._customer, len(names) * DEBITS)
        (read,) = api.balance_requests(self._customer)
        secret = self._environment["STRIPE_WEBHOOK_SECRETS"]
        for name in names:
            yield from itertools.islice(debits, DEBITS)
            yield from [read] * READS
            body = purchase_paid(name, organization=str(self._customer.id), padded=True)
            headers = {
                "Content-Type": "application/json; charset=utf-8",
                "Stripe-Signature": signature(body, secret),
            }
            yield wrk.request("POST", PATH, headers, body)


async def _sample(
    connection: Connection, web: WebProcess, worker: WorkerProcess, sent: wrk.Load
) -> _Minute:
    size = await connection.fetchval("SELECT pg_database_size(current_database())")
    return _Minute(
        web_mib=resident(web.pid) / MEBIBYTE,
        worker_mib=resident(worker.pid) / MEBIBYTE,
        per_second=sent.per_second,
        p99_ms=sent.p99_seconds * 1e3,
        pending=await store.pending(connection),
        database_mib=size / MEBIBYTE,
    )


async def _relations(connection: Connection) -> dict[str, Relation]:
    """Count and measure all tables and indexes; ANALYZE brings the counts up to date."""
    await connection.execute("ANALYZE")
    rows = await connection.fetch(_RELATIONS)
    return {row["name"]: Relation(row["entries"], row["bytes"]) for row in rows}


def _ratios(minutes: Sequence[_Minute], grown: Sequence[str], per_second: float) -> list[Ratio]:
    quarter = max(len(minutes) // 4, 1)
    rows = []
    for name in ("web", "worker"):
        sizes = [minute.web_mib if name == "web" else minute.worker_mib for minute in minutes]
        last, before = median(sizes[-quarter:]), median(sizes[-2 * quarter : -quarter] or sizes)
        limit = f"{RESIDENT_MIB_MAX} MiB"
        rows += [
            Ratio(
                f"{name} resident under load for {len(minutes)} min / {limit}",
                f"{max(sizes):.0f} MiB",
                limit,
                max(sizes) / RESIDENT_MIB_MAX,
                1,
                at_most=True,
            ),
            Ratio(
                f"{name} resident, last quarter / the quarter before",
                f"{last:.1f} MiB",
                f"{before:.1f} MiB",
                last / before,
                GROWTH_MAX,
                at_most=True,
            ),
        ]
    served = median(minute.per_second for minute in minutes)
    return [
        *rows,
        Ratio(
            "tables and indexes that grew by more than their rows in the last half",
            str(len(grown)),
            "",
            len(grown),
            0,
            at_most=True,
        ),
        Ratio(
            "rate of the median minute / the rate sent",
            f"{served:,.0f}/s",
            f"{per_second:,.0f}/s",
            served / per_second,
            0.95,
        ),
    ]


def _curves(minutes: Sequence[_Minute]) -> list[Curve]:
    def line(name: str, sizes: Sequence[float]) -> Series:
        return Series(name, tuple((n, round(s, 1)) for n, s in enumerate(sizes, 1)))

    return [
        Curve(
            "hour",
            "Memory under load at a steady rate",
            "minute",
            "MiB resident",
            (
                line("web", [minute.web_mib for minute in minutes]),
                line("worker", [minute.worker_mib for minute in minutes]),
            ),
        )
    ]


def _print(number: int, minute: _Minute) -> None:
    print(
        f"  minute {number}: {minute.per_second:,.0f}/s, p99 {minute.p99_ms:.1f} ms,"
        f" web {minute.web_mib:.1f} MiB, worker {minute.worker_mib:.1f} MiB,"
        f" {minute.pending} events pending, database {minute.database_mib:,.0f} MiB",
        file=sys.stderr,
        flush=True,
    )
