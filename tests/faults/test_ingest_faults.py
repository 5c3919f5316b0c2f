"""Real processes, real faults: every event that got a 200 is applied, nothing twice."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp
import asyncpg
import pytest
import pytest_asyncio

from migrations.runner import migrate
from sandbox.product import WebProcess, WorkerProcess
from sandbox.servers import EmbeddedServers
from sandbox.signed_events import purchase_id, purchase_paid, signature
from shared.db.pool import UNAVAILABLE
from shared.organizations import service as organizations
from shared.organizations.model import Organization
from shared.queue.connection import connect
from tests.fixtures.servers import as_role, execute
from webhooks.app import PATH

SECRET = "whsec_test_faults_0123456789"
LEASE_SECONDS = "2"
CREDITS = 10
SETTLED_SECONDS_MAX = 60
PURCHASES = 3500
LANES = 16
PURCHASES_OF_A_LANE = 500

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class System:
    """Everything that runs, and the events of one test that Stripe got a 200 for."""

    servers: EmbeddedServers
    web: WebProcess
    worker: WorkerProcess
    http: aiohttp.ClientSession
    organization: Organization
    accepted: set[str] = field(default_factory=set)
    numbers: Callable[[], int] = field(default_factory=lambda: itertools.count().__next__)

    async def deliver(self, count: int) -> None:
        """Deliver events at once; those that are not answered 200 are not counted as accepted."""
        await asyncio.gather(*(self.deliver_one(f"n{self.numbers()}") for _ in range(count)))

    async def deliver_one(self, number: str) -> bool:
        name = f"{self.organization.slug}{number}"
        body = purchase_paid(name, organization=str(self.organization.id))
        headers = {"Stripe-Signature": signature(body, SECRET)}
        try:
            async with self.http.post(self.web.url + PATH, data=body, headers=headers) as response:
                if response.status == 200:
                    self.accepted.add(f"evt_{name}")
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def fetch(self, query: str) -> list[asyncpg.Record]:
        """Return what a query selects about the organization, which is its $1."""
        connection = await asyncpg.connect(self.servers.database_url)
        try:
            return await connection.fetch(query, self.organization.id)
        finally:
            await connection.close()

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(SETTLED_SECONDS_MAX):
            while not await holds():  # noqa: ASYNC110 - other processes do the work
                await asyncio.sleep(0.02)

    async def applied(self) -> set[str]:
        try:
            rows = await self.fetch(
                "SELECT id FROM stripe_events WHERE state = 'applied' AND organization_id = $1"
            )
        except UNAVAILABLE:
            return set()
        return {row["id"] for row in rows}

    async def everything_is_applied_once(self) -> None:
        """Wait until all that was accepted is applied; then check each credit."""

        async def settled() -> bool:
            return self.accepted <= await self.applied()

        await self.until(settled)
        rows = await self.fetch(
            "SELECT payment_intent_id, count(*) AS times FROM credit_transactions"
            " WHERE organization_id = $1 GROUP BY 1"
        )
        assert {row["times"] for row in rows} == {1}
        assert {"evt_" + row["payment_intent_id"][3:] for row in rows} == await self.applied()
        account = (
            await self.fetch("SELECT balance, last_seq FROM accounts WHERE organization_id = $1")
        )[0]
        assert account["last_seq"] == len(rows)
        assert account["balance"] == CREDITS * len(rows)
        assert self.web.is_running
        assert self.worker.is_running


async def open_purchases(connection: asyncpg.Connection, organization: Organization) -> None:
    """Open the checkouts that are paid here: their events need no answer of Stripe's."""
    numbers = range(PURCHASES_OF_A_LANE)
    names = [f"n{number}" for number in range(PURCHASES)]
    names += [f"lane{lane}n{number}" for lane in range(LANES) for number in numbers]
    await connection.copy_records_to_table(
        "purchases",
        records=[
            (purchase_id(organization.slug + n), organization.id, CREDITS * 100, "usd", CREDITS)
            for n in names
        ],
        columns=["id", "organization_id", "amount_minor", "currency", "credits"],
    )


@dataclass
class Machine:
    """Servers and processes, which the tests of this file share: each leaves them running."""

    servers: EmbeddedServers
    web: WebProcess
    worker: WorkerProcess


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def machine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Machine]:
    folder = tmp_path_factory.mktemp("ingest")
    async with EmbeddedServers(
        folder / "home", fsync=False, appendonly=False, keep=False
    ) as servers:
        role, password = "processes", "secret"
        await execute(servers.database_url, f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
        await migrate(servers.database_url, app_role=role)
        environment = {
            "DATABASE_URL": as_role(servers.database_url, role, password),
            "REDIS_URL": servers.redis_url,
            "STRIPE_API_KEY": "sk_test_of_the_fault_tests",
            "STRIPE_WEBHOOK_SECRETS": SECRET,
            "PREPAID_LEASE_SECONDS": LEASE_SECONDS,
        }
        web = WebProcess(environment, folder / "web.log")
        worker = WorkerProcess(environment, folder / "worker.log")
        await asyncio.gather(web.start(), worker.start())
        try:
            yield Machine(servers, web, worker)
        finally:
            await worker.stop()
            await web.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def system(machine: Machine) -> AsyncIterator[System]:
    connection = await asyncpg.connect(machine.servers.database_url)
    number = await connection.fetchval("SELECT count(*) FROM organizations")
    slug = f"acme{number}x"
    organization = await organizations.create(connection, slug=slug, name=slug)
    await open_purchases(connection, organization)
    await connection.close()
    async with aiohttp.ClientSession() as http:
        yield System(machine.servers, machine.web, machine.worker, http, organization)


async def test_a_worker_killed_in_the_middle_of_its_work_loses_and_doubles_nothing(
    system: System,
) -> None:
    for _ in range(3):
        before = len(await system.applied())
        delivering = asyncio.create_task(system.deliver(1000))

        async def some_are_applied(before: int = before) -> bool:
            return len(await system.applied()) > before

        await system.until(some_are_applied)
        system.worker.kill()
        await system.worker.wait()
        await delivering
        assert len(system.accepted - await system.applied()) > 0, "it was killed too late"
        await system.worker.start()
    await system.everything_is_applied_once()
    assert len(system.accepted) == 3000


async def test_flushing_redis_with_events_pending_loses_nothing(system: System) -> None:
    await system.worker.stop()
    await system.deliver(300)
    client = connect(system.servers.redis_url)
    assert await client.dbsize() > 0, "no wakeup was queued"
    await client.flushall()
    await client.aclose(close_connection_pool=True)
    await system.worker.start()
    await system.everything_is_applied_once()
    assert len(system.accepted) == 300


async def test_events_are_taken_and_applied_while_redis_is_down_and_after(system: System) -> None:
    await system.deliver(50)
    await system.servers.valkey.kill()
    await system.deliver(200)
    await system.everything_is_applied_once()
    assert len(system.accepted) == 250
    await system.servers.valkey.start()
    await system.deliver(50)
    await system.everything_is_applied_once()
    client = connect(system.servers.redis_url)

    async def the_worker_listens_again() -> bool:
        waiting: int = await client.zcard("prepaid:jobs")
        return waiting == 0

    await system.until(the_worker_listens_again)
    await client.aclose(close_connection_pool=True)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_postgresql_restarted_under_load_loses_nothing_that_got_a_200(
    system: System, mode: str
) -> None:
    stop = asyncio.Event()

    async def stripe(lane: int) -> None:
        # As Stripe does, what was not answered 200 is sent again.
        for number in itertools.count():
            while not await system.deliver_one(  # noqa: ASYNC110 - another process answers
                f"lane{lane}n{number}"
            ):
                await asyncio.sleep(0.01)
            if stop.is_set():
                return

    lanes = [asyncio.create_task(stripe(lane)) for lane in range(LANES)]

    async def delivered(count: int) -> None:
        target = len(system.accepted) + count

        async def enough() -> bool:
            return len(system.accepted) >= target

        await system.until(enough)

    await delivered(200)
    await system.servers.postgres.restart(mode)  # type: ignore[arg-type] # a Literal, parametrized
    await delivered(200)
    stop.set()
    await asyncio.gather(*lanes)
    await system.everything_is_applied_once()


async def test_a_web_process_killed_under_load_loses_nothing_that_got_a_200(
    system: System,
) -> None:
    delivering = asyncio.create_task(system.deliver(1000))

    async def some_are_accepted() -> bool:
        return len(system.accepted) > 100

    await system.until(some_are_accepted)
    system.web.kill()
    await system.web.wait()
    await delivering
    accepted = len(system.accepted)
    assert 100 < accepted < 1000
    await system.web.start()
    await system.deliver(10)
    assert len(system.accepted) == accepted + 10
    await system.everything_is_applied_once()
