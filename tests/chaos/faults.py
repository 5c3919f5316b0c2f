"""Carries out the faults of a plan, and heals what they leave."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

import aiohttp
import asyncpg
from redis.exceptions import RedisError

from sandbox.process import ServerStartError
from sandbox.stripe.process import SimulatorError
from shared.queue.connection import connect
from tests.chaos import plan
from tests.chaos.installation import AWAY, PRODUCT_KEY, Installation
from tests.chaos.plan import Fault, FaultKind

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

AbstractFault = AbstractAsyncContextManager[None]

START_SECONDS_MAX = 240
STATEMENT_SECONDS_MAX = 5
RESTART_SECONDS = 0.2
BALLAST = "ballast"
LAST_BYTES = 8 * 1024**2
CHUNK_BYTES = 64 * 1024
EVERY_REQUEST = 1_000_000
# While the traffic runs, this share of the product's requests to Stripe, and of events, go wrong.
STRIPE_FAULTS = (
    {"path": "/v1/**", "fault": "answer_lost", "share": 0.03},
    {"path": "/v1/**", "fault": "error_500_after", "share": 0.03},
    {"path": "/v1/**", "fault": "error_500", "share": 0.02},
    {"path": "/v1/**", "fault": "cut_mid_body", "share": 0.02},
    {"path": "/v1/**", "fault": "refused", "share": 0.02},
    {"path": "/v1/**", "fault": "rate_limited", "share": 0.02},
    {"path": "/v1/**", "fault": "slow", "share": 0.03, "seconds": 1.0},
    {"event": "*", "fault": "dropped", "share": 0.02},
    {"event": "*", "fault": "duplicated", "share": 0.1},
    {"event": "*", "fault": "shuffled", "share": 0.1},
    {"event": "payment_intent.*", "fault": "webhook_first", "share": 0.05},
    {"event": "payment_intent.succeeded", "fault": "never_generated", "share": 0.02},
)


@dataclass
class Faults:
    """Begins and ends each fault at its time.

    `killed` and `restarted` are told what has been killed, and what is about to be started again.
    """

    installation: Installation
    http: aiohttp.ClientSession
    organizations: list[str]
    random: Random
    killed: Callable[[Fault], None]
    restarted: Callable[[Fault], None]
    happened: list[Fault] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)  # how long each start took, in seconds
    _starts: dict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    async def run(self, faults: list[Fault], say: Callable[[str], None]) -> None:
        """Carry out a plan; return when its last fault is over."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as tasks:
            for fault in faults:
                await asyncio.sleep(max(0.0, began + fault.at - loop.time()))
                step = f" by {fault.step:+d} s" if fault.step else ""
                say(f"{fault.at:7.2f} s  {fault.kind}: {fault.target}{step}, {fault.seconds} s")
                tasks.create_task(self._carry_out(fault))

    async def trouble_stripe(self, seed: int) -> None:
        """Let the simulator's own faults befall the product from now on."""
        for number, wish in enumerate(STRIPE_FAULTS):
            given = {"times": EVERY_REQUEST, "seed": seed * 100 + number, **wish}
            await self._simulate("faults", given | ({"key": PRODUCT_KEY} if "path" in wish else {}))

    async def heal(self) -> None:
        """End everything that still goes wrong, and start what does not run."""
        installation = self.installation
        async with self.http.delete("/_sim/faults") as cleared:
            assert cleared.status == 200
        (installation.servers.home.path / BALLAST).unlink(missing_ok=True)
        installation.step_clock(0)
        for link in installation.links.values():
            link.slow = link.silent = False
        for name in (*plan.PROCESSES, *plan.SERVERS):
            installation.signal(name, signal.SIGCONT)
        for server in plan.SERVERS:
            await self._start_server(server)
        for name, process in installation.processes.items():
            if not process.is_running:
                self.problems.append(f"{name} had ended by itself:\n{process.log_tail()}")
                await self._start_until_it_runs(name)

    async def _carry_out(self, fault: Fault) -> None:
        async with self._while_it_lasts(fault):
            await asyncio.sleep(fault.seconds)
        self.happened.append(fault)

    def _while_it_lasts(self, fault: Fault) -> AbstractFault:
        acts: dict[FaultKind, Callable[[Fault], AbstractFault]] = {
            FaultKind.KILL: self._kill,
            FaultKind.FREEZE: self._freeze,
            FaultKind.STOP_IMMEDIATELY: self._stop_postgres,
            FaultKind.END_BACKENDS: self._end_backends,
            FaultKind.FLUSH: self._flush,
            FaultKind.PAUSE: self._pause,
            FaultKind.LOCK: self._lock,
            FaultKind.CUT: self._cut,
            FaultKind.SLOW: self._slow,
            FaultKind.BLACK_HOLE: self._black_hole,
            FaultKind.FILL_DISK: self._fill_disk,
            FaultKind.STEP_CLOCK: self._step_clock,
            FaultKind.REFUSE_KEY: self._refuse_key,
        }
        return acts[fault.kind](fault)

    @asynccontextmanager
    async def _kill(self, fault: Fault) -> AsyncIterator[None]:
        await self.installation.kill(fault.target)
        self.killed(fault)
        yield
        self.restarted(fault)
        if fault.target in plan.SERVERS:
            await self._start_server(fault.target)
        else:
            await self._start_until_it_runs(fault.target)

    async def _start_until_it_runs(self, name: str) -> None:
        """Start a process again and again, as a service manager does: PostgreSQL may be away.

        A second kill meanwhile is of the process that is being started.
        """
        process = self.installation.processes[name]
        async with asyncio.timeout(START_SECONDS_MAX), self._starts[name]:
            while not process.is_running:
                began = time.monotonic()
                try:
                    await self.installation.restart(name)
                except (RuntimeError, TimeoutError):  # it ended, or is not ready yet
                    self.installation.signal(name, signal.SIGKILL)
                    await process.wait()
                    await asyncio.sleep(RESTART_SECONDS)
                else:
                    self.starts.append(time.monotonic() - began)

    async def _start_server(self, name: str) -> None:
        """Start a server again and again: its disk may be full, or a killed one still ending."""
        server = self.installation.server(name)
        async with asyncio.timeout(START_SECONDS_MAX), self._starts[name]:
            while not server.running:
                try:
                    await server.start()
                except (OSError, ServerStartError, SimulatorError, asyncpg.PostgresError):
                    await asyncio.sleep(RESTART_SECONDS)

    @asynccontextmanager
    async def _freeze(self, fault: Fault) -> AsyncIterator[None]:
        self.installation.signal(fault.target, signal.SIGSTOP)
        yield
        self.installation.signal(fault.target, signal.SIGCONT)

    @asynccontextmanager
    async def _stop_postgres(self, fault: Fault) -> AsyncIterator[None]:
        await self.installation.servers.postgres.stop("immediate")
        yield
        self.restarted(fault)
        await self._start_server(plan.POSTGRES)

    @asynccontextmanager
    async def _end_backends(self, _fault: Fault) -> AsyncIterator[None]:
        connection = await self._execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE 'prepaid-%' AND random() < 0.7"
        )
        if connection is not None:
            connection.terminate()
        yield

    @asynccontextmanager
    async def _flush(self, _fault: Fault) -> AsyncIterator[None]:
        await self._valkey("FLUSHALL")
        yield

    @asynccontextmanager
    async def _pause(self, fault: Fault) -> AsyncIterator[None]:
        await self._valkey("CLIENT", "PAUSE", int(fault.seconds * 1000), "ALL")
        yield

    @asynccontextmanager
    async def _lock(self, _fault: Fault) -> AsyncIterator[None]:
        organization = self.random.choice(self.organizations)
        connection = await self._execute(
            "SELECT 1 FROM accounts WHERE organization_id = $1::text::uuid FOR UPDATE",
            organization,
        )
        yield
        if connection is not None:
            connection.terminate()

    @asynccontextmanager
    async def _cut(self, fault: Fault) -> AsyncIterator[None]:
        self.installation.links[fault.target].cut()
        yield

    @asynccontextmanager
    async def _slow(self, fault: Fault) -> AsyncIterator[None]:
        self.installation.links[fault.target].slow = True
        yield
        self.installation.links[fault.target].slow = False

    @asynccontextmanager
    async def _black_hole(self, fault: Fault) -> AsyncIterator[None]:
        self.installation.links[fault.target].silent = True
        yield
        self.installation.links[fault.target].silent = False

    @asynccontextmanager
    async def _fill_disk(self, fault: Fault) -> AsyncIterator[None]:
        """Fill the disk of both servers; PostgreSQL may stop itself, and is started then."""
        home = self.installation.servers.home.path
        ballast = home / BALLAST
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            free = shutil.disk_usage(home).free
            os.posix_fallocate(file.fileno(), 0, max(free - LAST_BYTES, 1))
            file.seek(0, os.SEEK_END)
            for _ in range(2 * LAST_BYTES // CHUNK_BYTES):  # the servers write meanwhile
                file.write(bytes(CHUNK_BYTES))
        yield
        ballast.unlink()
        if not self.installation.servers.postgres.running:
            self.restarted(fault)
            await self._start_server(plan.POSTGRES)

    @asynccontextmanager
    async def _step_clock(self, fault: Fault) -> AsyncIterator[None]:
        self.installation.step_clock(fault.step)
        yield
        self.installation.step_clock(0)

    @asynccontextmanager
    async def _refuse_key(self, _fault: Fault) -> AsyncIterator[None]:
        await self._start_server(plan.STRIPE)  # it may have been killed, and still be starting
        wish = {"path": "/v1/**", "fault": "unauthorized_401", "key": PRODUCT_KEY}
        made = await self._simulate("faults", wish | {"times": EVERY_REQUEST})
        yield
        async with self.http.delete(f"/_sim/faults/{made['id']}") as cleared:
            assert cleared.status == 200

    async def _execute(self, statement: str, *arguments: object) -> Connection | None:
        """Execute a statement in a transaction that stays open; None where PostgreSQL is away."""
        connection: Connection | None = None
        try:
            async with asyncio.timeout(STATEMENT_SECONDS_MAX):
                connection = await self.installation.connect()
                await connection.execute("BEGIN")
                await connection.execute(statement, *arguments)
        except AWAY:
            if connection is not None:
                connection.terminate()
            return None
        return connection

    async def _valkey(self, *command: str | int) -> None:
        client = connect(self.installation.servers.redis_url)
        with suppress(RedisError, OSError):
            await client.execute_command(*command)  # type: ignore[no-untyped-call] # untyped in redis
        await client.aclose(close_connection_pool=True)

    async def _simulate(self, path: str, body: dict[str, object]) -> dict[str, object]:
        async with self.http.post(f"/_sim/{path}", json=body) as answer:
            document: dict[str, object] = await answer.json()
            assert answer.status == 200, document
            return document
