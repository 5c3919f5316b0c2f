"""The installation under test: real servers and processes, links between them, the simulator."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from random import Random

import asyncpg

from migrations.runner import migrate
from sandbox.postgres import EmbeddedPostgres
from sandbox.process_table import children_of, send
from sandbox.product import ProductProcess, WebProcess, WorkerProcess
from sandbox.servers import EmbeddedServers
from sandbox.stripe.process import SimulatorProcess
from sandbox.valkey import EmbeddedValkey
from shared.access import service as access
from shared.db.pool import UNAVAILABLE
from tests.chaos import plan
from tests.chaos.app import App
from tests.chaos.balancer import Balancer
from tests.chaos.machine import mount_small_disk, unmount_small_disk
from tests.chaos.proxy import TcpProxy
from tests.chaos.setting import Setting
from tests.fixtures.servers import as_role, execute

SECRET = "whsec_chaos_0123456789abcdef"
# The key that stops working is the product's; the customers' acts at Stripe have another.
PRODUCT_KEY = "sk_test_chaos_of_the_product"
CUSTOMERS_KEY = "sk_test_chaos_of_the_customers"
ROLE, PASSWORD = "processes", "secret"
RETRY_BASE_SECONDS = 0.25
CLOCK_FILE = "clock"
# What a statement raises while PostgreSQL is away.
AWAY = (asyncpg.PostgresError, *UNAVAILABLE)
# By which variable a process knows each server.
VARIABLES = {
    plan.POSTGRES: "DATABASE_URL",
    plan.VALKEY: "REDIS_URL",
    plan.STRIPE: "STRIPE_API_BASE",
}


@dataclass
class Installation:
    """Everything that runs. `api_key` may do everything."""

    setting: Setting
    servers: EmbeddedServers
    stripe: SimulatorProcess
    balancer: Balancer
    app: App
    links: dict[str, TcpProxy] = field(default_factory=dict)
    processes: dict[str, ProductProcess] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    api_key: str = ""

    @property
    def webs(self) -> dict[str, WebProcess]:
        """The web processes, by their names."""
        return {n: p for n, p in self.processes.items() if isinstance(p, WebProcess)}

    async def connect(self) -> asyncpg.Connection[asyncpg.Record]:
        """Connect to PostgreSQL itself, as its superuser."""
        return await asyncpg.connect(self.servers.database_url, timeout=5)

    def server(self, name: str) -> EmbeddedPostgres | EmbeddedValkey | SimulatorProcess:
        """Return a server by its name."""
        match name:
            case plan.POSTGRES:
                return self.servers.postgres
            case plan.VALKEY:
                return self.servers.valkey
            case _:
                return self.stripe

    def leader(self, name: str) -> int | None:
        """Return the process id of a process or server; None: it does not run."""
        if name in plan.SERVERS:
            server = self.server(name)
            return server.pid if server.running else None
        process = self.processes[name]
        return process.pid if process.is_running else None

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a process, then to its children: frozen, it forks no more of them."""
        leader = self.leader(name)
        if leader is not None:
            send(leader, number)
            for child in children_of(leader):
                send(child, number)

    async def kill(self, name: str) -> None:
        """Kill a process or server; of PostgreSQL the postmaster alone: its backends end later."""
        if name not in plan.SERVERS:
            self.signal(name, signal.SIGKILL)
        elif name != plan.POSTGRES:
            await self.server(name).kill()
        elif self.servers.postgres.running:
            send(self.servers.postgres.pid, signal.SIGKILL)

    async def restart(self, name: str) -> None:
        """Start a process that has died, with a log of its own."""
        process = self.processes[name]
        await process.wait()
        number = int(process.log_file.stem.rpartition(".")[2]) + 1
        process.log_file = self.setting.folder / f"{name}.{number}.log"
        await process.start()

    def step_clock(self, seconds: int) -> None:
        """Move the clock that the first web process sees, and no other."""
        target = self.setting.folder / CLOCK_FILE
        partial = target.with_suffix(".partial")
        partial.write_text(f"{seconds:+d}\n", encoding="ascii")
        partial.replace(target)


@asynccontextmanager
async def installed(setting: Setting) -> AsyncIterator[Installation]:
    """Start everything, one after the other; stop it at the end, whatever became of it."""
    folder, home = setting.folder, setting.folder / "home"
    home.mkdir()
    async with AsyncExitStack() as stack:
        if setting.machine.small_disk:
            mount_small_disk(home)
            stack.callback(unmount_small_disk, home)
        servers = await stack.enter_async_context(EmbeddedServers(home / "servers"))
        balancer = await stack.enter_async_context(Balancer().running())
        random = Random(f"app/{setting.seed}")  # noqa: S311 - a seed
        app = await stack.enter_async_context(App(random).running())
        simulator = SimulatorProcess(
            folder / "stripe.sqlite",
            webhook_url=balancer.url,
            webhook_secret=SECRET,
            retry_base_seconds=RETRY_BASE_SECONDS,
        )
        await simulator.start()
        stack.push_async_callback(simulator.stop)
        found = Installation(setting, servers, simulator, balancer, app)
        found.step_clock(0)
        await _link(found, plan.APP_LINK, app.url, stack)
        await _prepare(found)
        for name in plan.PROCESSES:
            await _start(found, name, stack)
        balancer.webs = found.webs
        yield found


async def _prepare(installation: Installation) -> None:
    url = installation.servers.database_url
    await execute(url, f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")
    await migrate(url, app_role=ROLE)
    connection = await installation.connect()
    made = await access.create_key(connection, name="chaos", scope="admin", organization_id=None)
    await connection.close()
    installation.api_key = str(made["key"])
    installation.environment = {
        "DATABASE_URL": as_role(url, ROLE, PASSWORD),
        "PREPAID_DIRECT_DATABASE_URL": "",
        "REDIS_URL": installation.servers.redis_url,
        "STRIPE_API_KEY": PRODUCT_KEY,
        "STRIPE_API_BASE": installation.stripe.url,
        "STRIPE_WEBHOOK_SECRETS": SECRET,
        "PREPAID_LEASE_SECONDS": str(installation.setting.lease_seconds),
        "PREPAID_REQUESTS_PER_MINUTE": "0",
        "PREPAID_WEBHOOKS_ALLOW_PRIVATE": "1",
        "PREPAID_TOP_UPS_PER_DAY_AMOUNT": "0",
        "PREPAID_TOP_UPS_PER_DAY_COUNT": "0",
        "PREPAID_TOP_UPS_PER_DAY_AMOUNT_BY_KEY": "0",
        "PREPAID_TOP_UPS_PER_DAY_COUNT_BY_KEY": "0",
        "PREPAID_HOME": str(installation.setting.folder / "no-home"),
    }


async def _start(installation: Installation, name: str, stack: AsyncExitStack) -> None:
    environment = dict(installation.environment)
    for server, variable in VARIABLES.items():
        link = f"{name}>{server}"
        environment[variable] = await _link(installation, link, environment[variable], stack)
    if name == plan.WEBS[0]:
        environment |= _other_clock(installation)
    kind = WebProcess if name in plan.WEBS else WorkerProcess
    process = kind(environment, installation.setting.folder / f"{name}.0.log")
    installation.processes[name] = process
    stack.push_async_callback(_end, process)
    await process.start()


async def _link(installation: Installation, name: str, address: str, stack: AsyncExitStack) -> str:
    """Put a proxy before a server; return the server's address through it."""
    link = TcpProxy(address)
    await link.start()
    stack.push_async_callback(link.close)
    installation.links[name] = link
    return link.url


def _other_clock(installation: Installation) -> dict[str, str]:
    """Return the variables by which a process reads its wall clock through libfaketime."""
    if installation.setting.machine.faketime is None:
        return {}
    return {
        "LD_PRELOAD": str(installation.setting.machine.faketime),
        "FAKETIME_TIMESTAMP_FILE": str(installation.setting.folder / CLOCK_FILE),
        "FAKETIME_CACHE_DURATION": "1",  # seconds
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # a step of the wall clock moves no other
    }


async def _end(process: ProductProcess) -> None:
    """End a process that may be frozen, or dead already; nothing more is asked of it."""
    if process.is_running:
        process.kill()
        await process.wait()
