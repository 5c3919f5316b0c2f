"""Debits of many organizations while the account of one is locked: what the others feel of it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from bench.results import Ratio, percentile
from bench.setting import reuse_wal
from shared.db.pool import connect, create_pool
from shared.errors import UnavailableError
from shared.ids import new_id
from shared.ledger import service
from shared.ledger.batches import Ledger
from shared.ledger.model import Posting, SystemAccount, TransactionType

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.db.pool import Pool

ORGANIZATIONS = 100
PER_SECOND = 200
SECONDS = 30
POOL_SIZE = 10
OWNED = Decimal(10) ** 9


async def measure(environment: Mapping[str, str], _folder: Path) -> list[Ratio]:
    """Measure debits at a steady rate, first with every account free, then with one locked."""
    url = environment["DATABASE_URL"]
    async with create_pool(url, size=POOL_SIZE, application_name="prepaid-bench") as pool:
        owners = await _owners(pool)
        await reuse_wal(url)
        ledger = Ledger(pool)
        await _debits(ledger, owners, seconds=2)  # each opens its burn segment
        free = await _debits(ledger, owners, seconds=SECONDS)
        async with _locked(url, owners[0]):
            locked = await _debits(ledger, owners, seconds=SECONDS)
        await ledger.close()
    measured = [percentile(of_others, 0.99) for of_others in (locked, free)]
    return [
        Ratio(
            f"p99 of debits at {PER_SECOND}/s over {ORGANIZATIONS} organizations,"
            " one account locked / none",
            f"{measured[0] * 1e3:.1f} ms",
            f"{measured[1] * 1e3:.1f} ms",
            measured[0] / measured[1],
            2,
            at_most=True,
        )
    ]


async def _owners(pool: Pool) -> list[UUID]:
    rows = await pool.fetch(
        "WITH made AS (INSERT INTO organizations (id, slug, name)"
        " SELECT gen_random_uuid(), 'isolated-' || n, 'Isolated' FROM generate_series(1, $1) AS n"
        " RETURNING id) INSERT INTO accounts (organization_id) SELECT id FROM made"
        " RETURNING organization_id",
        ORGANIZATIONS,
    )
    owners = [row["organization_id"] for row in rows]
    async with pool.acquire() as connection:
        grants = [_posting(o, TransactionType.GRANT, OWNED) for o in owners]
        await service.post(connection, grants)
    return owners


@asynccontextmanager
async def _locked(url: str, owner: UUID) -> AsyncIterator[None]:
    connection = await connect(url, application_name="prepaid-bench")
    async with connection.transaction():
        await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        await connection.execute(
            "SELECT FROM accounts WHERE organization_id = $1 FOR UPDATE", owner
        )
        yield
    await connection.close()


async def _debits(ledger: Ledger, owners: list[UUID], *, seconds: int) -> list[float]:
    """Return how long each debit of all but the first organization took, in seconds.

    They come at random moments, as from many clients who know nothing of each other; none waits for
    another's answer.
    """
    measured: list[float] = []
    under_way: set[asyncio.Task[None]] = set()

    async def debit(owner: UUID, due: float) -> None:
        try:
            result = await ledger.post(_posting(owner, TransactionType.USAGE, Decimal("-0.01")))
        except UnavailableError:
            assert owner == owners[0], "only the locked one may be refused"
            return
        assert result.status == "posted", result
        if owner != owners[0]:
            measured.append(time.perf_counter() - due)

    chance = random.Random(1)  # noqa: S311 - no secret
    due = time.perf_counter()
    end = due + seconds
    while due < end:
        due += chance.expovariate(PER_SECOND)
        await asyncio.sleep(due - time.perf_counter())
        task = asyncio.create_task(debit(chance.choice(owners), due))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    for task in [*under_way]:
        await task
    return measured


def _posting(owner: UUID, kind: TransactionType, amount: Decimal) -> Posting:
    posting_id = new_id()
    return Posting(
        organization_id=owner,
        id=posting_id,
        type=kind,
        counterparty=SystemAccount.REVENUE,
        key=str(posting_id),
        amount=amount,
    )
