"""What operators read of a large installation: dead letters, pages of a long history, samples."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg

from bench.results import Ratio
from bench.setting import create_organization
from console.pages.organization import balance_chart
from console.pages.organization_lists import QUERIES
from shared.access import service as access
from shared.db.pool import create_pool
from shared.inbox.model import EventState
from shared.invariants import service as invariants
from shared.invariants.catalog import INVARIANTS
from shared.replay import dead_letters
from shared.samples import store as samples
from shared.samples.model import Series
from worker.sampler import Sampler

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

ROWS = int(os.environ.get("OPERATIONS_ROWS", "2000000"))
# Events, transactions of one organization, entries of the audit log.
SMALL = 20_000, 20_000, 1_000
LARGE = ROWS, ROWS, 100_000
DEAD_EVERY = 200
CAUSES = 8
REPEATS = 41
ROUND_SECONDS_MAX = 1.0
SAMPLED = timedelta(days=14)

SMALL_DATABASE = "operations_small"
FILL_SECONDS_MAX = 3_600

FILL_EVENTS = """
INSERT INTO stripe_events (
    account, livemode, id, type, stripe_created_at, received_at, payload, state, settled_at, lane,
    reason, error_class, available_at
)
SELECT
    '', FALSE, 'evt_' || i, 'type.' || i / $3::integer % $4::integer, now(),
    now() - i * interval '100 milliseconds',
    '{"data": {"object": {"id": "pi_1", "amount": 1000, "currency": "usd"}}}',
    CASE WHEN i % $3::integer = 0 THEN 'dead' ELSE 'applied' END,
    now() - i * interval '100 milliseconds', 'alone',
    'the customer is not known', 'UnknownCustomer',
    now() - interval '1 day'
FROM generate_series($1::integer, $2::integer) AS i
"""
FILL_LEDGER = """
INSERT INTO credit_transactions (
    organization_id, seq, id, type, amount, counterparty, balance_after, consumed_after,
    idempotency_key, request_digest, effective_at, created_at, hash
)
SELECT
    $1, n, gen_random_uuid(), 'usage', -1, 'revenue', $4::integer - n, n, n::text, '', at, at, ''
FROM generate_series($2::integer, $3::integer) AS n
CROSS JOIN LATERAL (SELECT now() - ($4::integer - n) * interval '1 second') AS m (at)
"""
SET_LAST_SEQ = "UPDATE accounts SET last_seq = $2 WHERE organization_id = $1"
FILL_AUDIT = """
INSERT INTO audit_log (id, at, actor, action, subject, organization_id)
SELECT gen_random_uuid(), now() - i * interval '1 second', 'bench', 'key.create', i::text, $1
FROM generate_series($2::integer, $3::integer) AS i
"""
Read = Callable[["Connection"], Awaitable[object]]


async def measure(environment: Mapping[str, str], _folder: Path) -> list[Ratio]:
    """Time each page of a small and of a large installation; then a round of the workers."""
    url = environment["DATABASE_URL"]
    organization = UUID(await create_organization(url, "operations"))
    async with (
        create_pool(await _copy(url), size=1, application_name="prepaid-bench") as small_pool,
        create_pool(url, size=4, application_name="prepaid-bench") as pool,
    ):
        await _fill(small_pool, organization, SMALL)
        await _fill(pool, organization, LARGE)
        async with small_pool.acquire() as small, pool.acquire() as large:
            pages = [
                await _compare(name, page, small, large)
                for name, page in _pages(organization).items()
            ]
        rounds = await _rounds(pool)
    return pages + [
        Ratio(name, f"{seconds:.3f} s", "1 s", seconds / ROUND_SECONDS_MAX, 1, at_most=True)
        for name, seconds in rounds.items()
    ]


async def _copy(url: str) -> str:
    """Copy the database, which has an organization and nothing else; return the copy's address."""
    parts = urlsplit(url)
    connection = await asyncpg.connect(parts._replace(path="/postgres").geturl())
    try:
        name = parts.path.removeprefix("/")
        await connection.execute(f'CREATE DATABASE "{SMALL_DATABASE}" TEMPLATE "{name}"')
    finally:
        await connection.close()
    return parts._replace(path=f"/{SMALL_DATABASE}").geturl()


async def _fill(pool: Pool, organization: UUID, size: tuple[int, int, int]) -> None:
    began = time.monotonic()
    events, rows, entries = size
    async with pool.acquire() as connection:
        await connection.execute("SET statement_timeout = 0")
        await connection.execute("ALTER TABLE credit_transactions DISABLE TRIGGER USER")
        for statement, arguments in (
            (FILL_EVENTS, (1, events, DEAD_EVERY, CAUSES)),
            (FILL_LEDGER, (organization, 1, rows, rows)),
            (SET_LAST_SEQ, (organization, rows)),
            (FILL_AUDIT, (organization, 1, entries)),
            ("VACUUM (ANALYZE)", ()),
            ("CHECKPOINT", ()),
        ):
            await connection.execute(statement, *arguments, timeout=FILL_SECONDS_MAX)
        await connection.execute("RESET statement_timeout")
    seconds = time.monotonic() - began
    print(f"filled to {events:,} events in {seconds:.0f} s", file=sys.stderr, flush=True)


def _pages(organization: UUID) -> dict[str, Read]:
    now = datetime.now(UTC)

    def chart(period: str) -> Read:
        return lambda connection: balance_chart(connection, organization, None, period, now)

    def audit(of: UUID | None) -> Read:
        return lambda connection: access.audit_entries(
            connection, organization_id=of, actor=None, since=None, after=None, limit=51
        )

    return {
        "dead letters, first page": lambda connection: dead_letters.list_events(
            connection, state=EventState.DEAD
        ),
        "dead letters by cause": dead_letters.causes,
        "balance over time": chart("all"),
        "balance over 24 hours": chart("24h"),
        "history, first page": lambda connection: connection.fetch(
            QUERIES.history, organization, 2**62, 0, None, 51
        ),
        "audit log": audit(None),
        "audit log of an organization": audit(organization),
    }


async def _compare(name: str, read: Read, small: Connection, large: Connection) -> Ratio:
    """Time a page of both in turn, so that a busy moment of the machine slows both."""
    times: dict[Connection, list[float]] = {small: [], large: []}
    for _ in range(REPEATS):
        for connection, seconds in times.items():
            seconds.append(await _seconds(connection, read))
    of_small, of_large = (median(seconds[1:]) for seconds in times.values())
    return Ratio(
        f"{name}: large / small",
        f"{of_large * 1000:.2f} ms",
        f"{of_small * 1000:.2f} ms",
        of_large / of_small,
        2,
        at_most=True,
    )


async def _seconds(connection: Connection, read: Read) -> float:
    began = time.monotonic()
    await read(connection)
    return time.monotonic() - began


async def _rounds(pool: Pool) -> dict[str, float]:
    """Time one round of the invariants and of the sampler, and a chart of 14 days."""
    times = {}
    for invariant in INVARIANTS:
        began = time.monotonic()
        await invariants.check(pool, invariant)
        times[f"one round of {invariant.name}"] = time.monotonic() - began
    began = time.monotonic()
    await Sampler(pool).sample()
    times["one round of the sampler"] = time.monotonic() - began
    async with pool.acquire() as connection:
        await connection.execute(
            "INSERT INTO metric_samples (name, label, sampled_at, value)"
            " SELECT $1, '', now() - i * interval '1 minute', i"
            " FROM generate_series(1, $2::integer) AS i",
            Series.BACKLOG,
            SAMPLED // timedelta(minutes=1),
        )
        now = datetime.now(UTC)
        times["chart of 14 days of samples"] = await _seconds(
            connection,
            lambda each: samples.points(each, Series.BACKLOG, now - SAMPLED, now, points_max=120),
        )
    return times
