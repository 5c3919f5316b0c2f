"""The billing API over HTTP, one hot organization: debits alone and in batches, and the balance.

A debit that was answered is a row that was committed: after each load the ledger must have as many.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import msgspec

from bench import pgbench, wrk
from bench.baseline_server import BALANCE_PATH, DEBIT_PATH
from bench.results import Ratio, rates
from bench.setting import baseline_server, create_organization, reuse_wal
from sandbox.product import WebProcess
from shared.access import service as access
from shared.db.pool import connect
from shared.ids import new_id
from shared.ledger import service as ledger
from shared.ledger import store
from shared.ledger.model import Posting, SystemAccount, TransactionType

SECONDS = 6
DEBITS = 120_000
BATCH_PATH = "/v1/billing/{organizationId}/transactions/batch"
BATCH_ROWS = 200
BATCHES = 1_500
# As many as keep the web process busy while PostgreSQL commits; more wait for the account's lock.
BATCH_CONNECTIONS = 4
PGBENCH_CLIENTS = 16
OWNED = Decimal(10) ** 12

_names = itertools.count()


async def measure(environment: Mapping[str, str], folder: Path) -> list[Ratio]:
    """Measure the web process and a server that does nothing by turns, under the same requests."""
    environment = {**environment, "PREPAID_REQUESTS_PER_MINUTE": "0"}
    customer = await create_customer(environment["DATABASE_URL"])
    await reuse_wal(customer.database_url)
    web = WebProcess(environment, folder / "web-api.log")
    await web.start()
    try:
        async with baseline_server("noop", environment, folder) as noop_url:
            bench = _Bench(customer, web.url, noop_url, folder / "requests")
            return [
                *await _debits(bench),
                await _batches(bench, folder),
                await _reads(bench),
            ]
    finally:
        await web.stop()


@dataclass(frozen=True, slots=True)
class Customer:
    """The organization that everything is posted to, and the headers that its app sends."""

    database_url: str
    id: UUID
    headers: dict[str, str]

    def path(self, template: str) -> str:
        return template.replace("{organizationId}", str(self.id))

    async def rows(self) -> int:
        """Return how many rows its ledger has."""
        connection = await connect(self.database_url, application_name="prepaid-bench")
        balance = await store.balance(connection, self.id)
        await connection.close()
        assert balance is not None
        return balance.last_seq


@dataclass(frozen=True, slots=True)
class _Bench:
    customer: Customer
    web_url: str
    noop_url: str
    requests: Path

    async def noop(self, requests: Iterator[bytes], per_second: float | None = None) -> wrk.Load:
        """Send requests to the server that does nothing."""
        wrk.write_requests(self.requests, requests)
        return await wrk.run(self.noop_url, self.requests, seconds=SECONDS, per_second=per_second)

    async def web(
        self,
        requests: Iterator[bytes],
        *,
        rows: int = 0,
        connections: int = wrk.CONNECTIONS,
        per_second: float | None = None,
    ) -> wrk.Load:
        """Send requests to Prepaid; each that was answered must have brought so many rows."""
        wrk.write_requests(self.requests, requests)
        before = await self.customer.rows()
        load = await wrk.run(
            self.web_url,
            self.requests,
            seconds=SECONDS,
            connections=connections,
            per_second=per_second,
        )
        posted = await self.customer.rows() - before
        assert posted >= load.answers * rows, f"{load.answers} answers, {posted} rows"
        return load


async def _debits(bench: _Bench) -> list[Ratio]:
    noop = await bench.noop(debit_requests(bench.customer))
    full = await bench.web(debit_requests(bench.customer), rows=1)
    half = full.per_second / 2
    noop_half = await bench.noop(debit_requests(bench.customer), per_second=half)
    web_half = await bench.web(debit_requests(bench.customer), rows=1, per_second=half)
    return [
        rates("debits over HTTP / no-op", full.per_second, noop.per_second, 0.4),
        Ratio(
            f"p99 of debits at {web_half.per_second:,.0f}/s / of no-op at that rate",
            f"{web_half.p99_seconds * 1e3:.1f} ms",
            f"{noop_half.p99_seconds * 1e3:.1f} ms",
            web_half.p99_seconds / noop_half.p99_seconds,
            8,
            at_most=True,
        ),
    ]


async def _batches(bench: _Bench, folder: Path) -> Ratio:
    await pgbench.create_tables(bench.customer.database_url)
    baseline = await pgbench.run(bench.customer.database_url, folder, clients=PGBENCH_CLIENTS)
    load = await bench.web(
        _batch_requests(bench.customer), rows=BATCH_ROWS, connections=BATCH_CONNECTIONS
    )
    return rates(
        f"debits in batches of {BATCH_ROWS} over HTTP / pgbench hot row, {PGBENCH_CLIENTS} clients",
        load.per_second * BATCH_ROWS,
        baseline,
        12,
    )


async def _reads(bench: _Bench) -> Ratio:
    noop = await bench.noop(balance_requests(bench.customer))
    web = await bench.web(balance_requests(bench.customer))
    return rates("balance over HTTP / no-op", web.per_second, noop.per_second, 0.6)


def debit_requests(customer: Customer, count: int = DEBITS) -> Iterator[bytes]:
    for _ in range(count):
        body = msgspec.json.encode({"organizationId": str(customer.id), **_debit()})
        yield wrk.request("POST", customer.path(DEBIT_PATH), customer.headers, body)


def _batch_requests(customer: Customer) -> Iterator[bytes]:
    for _ in range(BATCHES):
        body = msgspec.json.encode({"transactions": [_debit() for _ in range(BATCH_ROWS)]})
        yield wrk.request("POST", customer.path(BATCH_PATH), customer.headers, body)


def balance_requests(customer: Customer) -> Iterator[bytes]:
    yield wrk.request("GET", customer.path(BALANCE_PATH), customer.headers)


def _debit() -> dict[str, object]:
    return {"amount": -0.001, "transactionId": f"bench-{next(_names)}"}


async def create_customer(database_url: str) -> Customer:
    """Create an organization that owns enough, and a key that may write."""
    owner = UUID(await create_organization(database_url, "api"))
    connection = await connect(database_url, application_name="prepaid-bench")
    key = await access.create_key(connection, name="bench", scope="write", organization_id=None)
    grant = Posting(
        organization_id=owner,
        id=new_id(),
        type=TransactionType.GRANT,
        counterparty=SystemAccount.PROMOTIONS,
        key="grant",
        amount=OWNED,
    )
    (result,) = await ledger.post(connection, [grant])
    assert result.status == "posted", result
    # Auto-recharge is on: every batch looks whether it has to arm one.
    await connection.execute("UPDATE accounts SET recharge_below = 1")
    await connection.close()
    headers = {"Authorization": f"Bearer {key['key']}", "Content-Type": "application/json"}
    return Customer(database_url, owner, headers)
