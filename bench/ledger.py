"""The ledger at work: one hot organization, ten thousand, one posting at a time, and growth."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from bench import pgbench
from bench.results import Ratio, rates
from bench.setting import create_organization, fresh_database
from shared.db.pool import connect
from shared.ids import new_id
from shared.ledger import listing, service, store
from shared.ledger.filters import Filter, Kind, Operator
from shared.ledger.model import Posting, SystemAccount, TransactionType

if TYPE_CHECKING:
    from shared.db.pool import Connection

Job = Callable[[], Awaitable[object]]
BATCH = 200
LANES = 2
SECONDS = 5
ORGANIZATIONS = 10_000
OWNED = Decimal(10) ** 12
# BENCH_ROWS=1000000 for a shorter run.
SMALL_ROWS, LARGE_ROWS = 50_000, int(os.environ.get("BENCH_ROWS", "10000000"))
# Grants of 1 credit that one debit is taken from; the target is a cost that is linear in them.
GRANTS = (1_000, 10_000, 100_000)
PAGE, LONG_PAGE, LAST_PAGE = 100, 1_000, 1_000

# The same rows with the same columns and indexes, and nothing decided about them.
_BARE_TABLES = """
CREATE TABLE bare_transactions (
    LIKE credit_transactions INCLUDING DEFAULTS INCLUDING INDEXES INCLUDING CONSTRAINTS
);
CREATE TABLE bare_accounts (LIKE accounts INCLUDING ALL);
INSERT INTO bare_accounts SELECT * FROM accounts;
"""
_BARE_BATCH = """
WITH account AS (
    UPDATE bare_accounts
    SET balance = balance - 0.01 * $2, last_seq = last_seq + $2
    WHERE organization_id = $1
    RETURNING balance, last_seq
)
INSERT INTO bare_transactions (
    organization_id, seq, id, type, amount, counterparty, balance_after, consumed_after,
    idempotency_key, request_digest, effective_at, created_at, category, quantity, metadata, hash
)
SELECT
    $1, a.last_seq - $2 + n, i.id, 'usage', -0.01, 'revenue', a.balance + 0.01 * ($2 - n),
    0.01 * n, i.key, sha256(i.key::bytea), now(), now(), 'tokens', 10, '{"model": "m1"}',
    sha256(i.key::bytea)
FROM account AS a
CROSS JOIN unnest($3::uuid [], $4::text []) WITH ORDINALITY AS i (id, key, n)
"""


async def measure(environment: Mapping[str, str], folder: Path) -> list[Ratio]:
    """Measure posting against pgbench and against bare inserts, in one run, with fsync on."""
    url = environment["DATABASE_URL"]
    hot = UUID(await create_organization(url, "hot"))
    lanes = [await connect(url, application_name="prepaid-bench") for _ in range(LANES)]
    try:
        await grant(lanes[0], [hot])
        await lanes[0].execute(_BARE_TABLES)
        await pgbench.create_tables(url)
        sixteen = await pgbench.run(url, folder, clients=16)
        alone = await pgbench.run(url, folder, clients=1)
        bare = await rate(lanes, BATCH, lambda c: _post_bare(c, hot))
        batches = await rate(lanes, BATCH, lambda c: post(c, [hot] * BATCH))
        single = await rate(lanes[:1], 1, lambda c: post(c, [hot]))
        spread = await _spread(lanes)
    finally:
        for lane in lanes:
            await lane.close()
    return [
        rates(
            "hot organization, batches of 200 / pgbench hot row, 16 clients", batches, sixteen, 16
        ),
        rates("hot organization / bare INSERT + UPDATE", batches, bare, 0.5),
        rates("10,000 organizations / hot organization", spread, batches, 0.5),
        rates("one at a time / pgbench, 1 client", single, alone, 0.4),
    ]


async def measure_growth(environment: Mapping[str, str], _folder: Path) -> list[Ratio]:
    """Measure the same work on a ledger of 50,000 and one of 10,000,000 rows, by turns."""
    url = environment["DATABASE_URL"]
    async with fresh_database(url, "small") as small_url:
        small = await _growing(small_url, SMALL_ROWS)
        large = await _growing(url, LARGE_ROWS)
        try:
            pages = await _pages(*large)
            times = {
                name: await best_of(large_job, small_job)
                for (name, small_job), large_job in zip(
                    (await jobs(*small)).items(), (await jobs(*large)).values(), strict=True
                )
            }
        finally:
            await small[0].close()
            await large[0].close()
    return pages + [
        Ratio(
            f"{name}, at {LARGE_ROWS:,} rows / at {SMALL_ROWS:,}",
            f"{at_large * 1e3:.2f} ms",
            f"{at_small * 1e3:.2f} ms",
            at_large / at_small,
            1.3,
            at_most=True,
        )
        for name, (at_large, at_small) in times.items()
    ]


async def measure_burns(environment: Mapping[str, str], _folder: Path) -> list[Ratio]:
    """Measure one debit across many grants, against the same of a tenth of the grants."""
    url = environment["DATABASE_URL"]
    connection = await connect(url, application_name="prepaid-bench", statement_seconds_max=600)
    try:
        seconds = {count: await _burn(connection, url, count) for count in GRANTS}
    finally:
        await connection.close()
    return [
        Ratio(
            f"one debit across {more:,} grants / {fewer:,} grants",
            f"{seconds[more]:.2f} s",
            f"{seconds[fewer]:.2f} s",
            seconds[more] / seconds[fewer],
            15,
            at_most=True,
        )
        for fewer, more in itertools.pairwise(GRANTS)
    ]


async def _burn(connection: Connection, url: str, count: int) -> float:
    """Return the seconds of one debit of all that `count` grants of 1 credit hold."""
    owner = UUID(await create_organization(url, f"burning-{count}"))
    for start in range(0, count, BATCH * 5):
        postings = [_grant_of_one(owner) for _ in range(min(BATCH * 5, count - start))]
        await service.post(connection, postings)
    debit = msgspec.structs.replace(_usage(owner), amount=Decimal(-count))
    started = time.perf_counter()
    (result,) = await service.post(connection, [debit])
    assert result.status == "posted"
    return time.perf_counter() - started


def _grant_of_one(owner: UUID) -> Posting:
    return Posting(
        organization_id=owner,
        id=new_id(),
        type=TransactionType.GRANT,
        counterparty=SystemAccount.PROMOTIONS,
        key=f"grant-{next(_names)}",
        amount=Decimal(1),
    )


_names = itertools.count()


def _usage(owner: UUID) -> Posting:
    return Posting(
        organization_id=owner,
        id=new_id(),
        type=TransactionType.USAGE,
        counterparty=SystemAccount.REVENUE,
        key=f"usage-{next(_names)}",
        amount=Decimal("-0.01"),
        category="tokens",
        quantity=Decimal(10),
        metadata={"model": "m1"},
    )


async def grant(connection: Connection, owners: Sequence[UUID]) -> None:
    postings = [
        Posting(
            organization_id=owner,
            id=new_id(),
            type=TransactionType.GRANT,
            counterparty=SystemAccount.PROMOTIONS,
            key="grant",
            amount=OWNED,
        )
        for owner in owners
    ]
    for start in range(0, len(postings), BATCH):
        async with connection.transaction():
            await service.post(connection, postings[start : start + BATCH])
    # Auto-recharge is on: every batch looks whether it has to arm one.
    await connection.execute("UPDATE accounts SET recharge_below = 1")


async def post(connection: Connection, owners: Sequence[UUID]) -> None:
    # One statement is a transaction of its own, as in Ledger.
    results = await service.post(connection, [_usage(owner) for owner in owners])
    assert all(result.status == "posted" for result in results)


async def _post_bare(connection: Connection, owner: UUID) -> None:
    await connection.execute(
        _BARE_BATCH,
        owner,
        BATCH,
        [new_id() for _ in range(BATCH)],
        [f"bare-{next(_names)}" for _ in range(BATCH)],
    )


async def rate(
    lanes: Sequence[Connection], rows: int, work: Callable[[Connection], Awaitable[None]]
) -> float:
    """Return rows a second over all lanes, each posting one batch after the other."""
    end = time.monotonic() + SECONDS

    async def lane(connection: Connection) -> int:
        done = 0
        while time.monotonic() < end:
            await work(connection)
            done += rows
        return done

    started = time.monotonic()
    done = sum(await asyncio.gather(*map(lane, lanes)))
    return done / (time.monotonic() - started)


async def _spread(lanes: Sequence[Connection]) -> float:
    rows = await lanes[0].fetch(
        "WITH made AS (INSERT INTO organizations (id, slug, name)"
        " SELECT gen_random_uuid(), 'spread-' || n, 'Spread' FROM generate_series(1, $1) AS n"
        " RETURNING id) INSERT INTO accounts (organization_id) SELECT id FROM made"
        " RETURNING organization_id",
        ORGANIZATIONS,
    )
    owners = [row["organization_id"] for row in rows]
    await grant(lanes[0], owners)
    turns = itertools.cycle(
        owners[start : start + BATCH] for start in range(0, ORGANIZATIONS, BATCH)
    )
    # Each organization's first debit opens its burn segment, once for all that its grant covers.
    for _ in range(0, ORGANIZATIONS, BATCH):
        await post(lanes[0], next(turns))
    return await rate(lanes, BATCH, lambda c: post(c, next(turns)))


async def _growing(url: str, rows: int) -> tuple[Connection, UUID]:
    """Bring a ledger to a size through its own function, in large batches."""
    owner = UUID(await create_organization(url, "growing"))
    connection = await connect(url, application_name="prepaid-bench", statement_seconds_max=600)
    await grant(connection, [owner])
    for _ in range(0, rows, 1000):
        await post(connection, [owner] * 1000)
    await connection.execute("VACUUM ANALYZE")
    return connection, owner


async def jobs(connection: Connection, owner: UUID) -> dict[str, Job]:
    balance = await store.balance(connection, owner)
    assert balance is not None
    newest = balance.last_seq + 1
    end = datetime.now(UTC) + timedelta(hours=1)
    start = end - timedelta(days=1)
    return {
        "posting 200": lambda: post(connection, [owner] * BATCH),
        "balance": lambda: store.balance(connection, owner),
        "history page": lambda: store.history(connection, owner, before=newest, limit=100),
        "usage total": lambda: store.usage_total(connection, owner, "tokens", start=start, end=end),
    }


async def best_of(*timed: Job, tries: int = 200) -> list[float]:
    """Return the best time of each job, in seconds: the least disturbed by others."""
    rounds = [[await _seconds(job) for job in timed] for _ in range(tries)]
    return [min(times) for times in zip(*rounds, strict=True)]


async def _pages(connection: Connection, owner: UUID) -> list[Ratio]:
    """Compare pages of all these rows by how deep they are: by cursor, and by number."""
    balance = await store.balance(connection, owner)
    assert balance is not None
    depths = (balance.last_seq + 1, balance.last_seq // 2, PAGE + 1)
    first, *deeper = await best_of(
        *(partial(store.history, connection, owner, before=before, limit=PAGE) for before in depths)
    )
    by_number = {
        (of, page): await _best(
            partial(
                listing.list_page,
                connection,
                of,
                (),
                offset=(page - 1) * LONG_PAGE,
                limit=LONG_PAGE,
            ),
            tries=10,
        )
        for of in (owner, None)
        for page in (1, LAST_PAGE)
    }
    cheap = Filter("amount", Operator.GT, [Decimal(0)], Kind.NUMBER)
    filtered = await _best(
        lambda: listing.list_page(connection, owner, [cheap], offset=0, limit=LONG_PAGE), tries=3
    )
    return [
        _costs("deepest history page by cursor / the first", max(deeper), first, 1.3),
        *(
            _costs(
                f"page {LAST_PAGE:,} of {LONG_PAGE:,} rows, {name} / page 1",
                by_number[of, LAST_PAGE],
                by_number[of, 1],
                most,
            )
            for of, name, most in (
                (owner, "one organization", 1.3),
                (None, "all organizations", 20),
            )
        ),
        _costs("a filter that looks at all rows / page 1", filtered, by_number[owner, 1], 1000),
    ]


async def _best(job: Job, *, tries: int = 200) -> float:
    (best,) = await best_of(job, tries=tries)
    return best


def _costs(name: str, measured: float, baseline: float, most: float) -> Ratio:
    return Ratio(
        f"{name}, at {LARGE_ROWS:,} rows",
        f"{measured * 1e3:.2f} ms",
        f"{baseline * 1e3:.2f} ms",
        measured / baseline,
        most,
        at_most=True,
    )


async def _seconds(job: Job) -> float:
    started = time.perf_counter()
    await job()
    return time.perf_counter() - started
