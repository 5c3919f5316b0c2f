"""How long it takes until what was killed and started again serves: measured, not judged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count

import asyncpg

from tests.chaos import plan
from tests.chaos.client import Client
from tests.chaos.installation import AWAY, Installation
from tests.chaos.plan import Fault
from tests.chaos.traffic import debit_once

LOOK_SECONDS = 0.1
# What is leased now; and what has become of it: whether it still is under the same lease, and
# whether another worker has it because the lease ended.
LEASED = """
SELECT id, lease_token, leases_lost
FROM stripe_events
WHERE lease_token IS NOT NULL AND available_at > now()
"""
LEASED_BEFORE = """
SELECT e.id, e.lease_token IS NOT DISTINCT FROM l.token AS still, e.leases_lost > l.lost AS lost
FROM stripe_events AS e
INNER JOIN unnest($1::text [], $2::uuid [], $3::integer []) AS l (id, token, lost) ON e.id = l.id
"""
APPLIED_SINCE = "SELECT 1 FROM stripe_events WHERE settled_at > $1 AND received_at > $1 LIMIT 1"


@dataclass(frozen=True, slots=True)
class Recovery:
    """From the start of a process or server to the first request or event that it served."""

    fault: Fault
    seconds: float


@dataclass(frozen=True, slots=True)
class Takeover:
    """From the kill of a worker until another one had the last of the events that it had leased."""

    events: int
    seconds: float


@dataclass
class Recoveries:
    """Measures each recovery beside the traffic."""

    installation: Installation
    probes: dict[str, Client]  # by web process: each sends to that one alone
    organization: str
    done: list[Recovery] = field(default_factory=list)
    takeovers: list[Takeover] = field(default_factory=list)
    _tasks: dict[asyncio.Task[None], Fault] = field(default_factory=dict)
    _numbers: count[int] = field(default_factory=count)

    def begin(self, fault: Fault) -> None:
        """Measure from now: what the fault ended is about to be started."""
        if fault.target in plan.WEBS:
            served = self._accepts(self.probes[fault.target])
        elif fault.target in plan.WORKERS:
            served = self._works(self._is_ready(fault.target), self._applies_new())
        else:
            served = self._serves_again(fault.target, self._applies_new())
        self._tasks[asyncio.create_task(self._measure(fault, served))] = fault

    def killed(self, fault: Fault) -> None:
        """Measure from now how long the events that a killed worker has leased wait for another."""
        if fault.target in plan.WORKERS:
            self._tasks[asyncio.create_task(self._take_over())] = fault

    async def finish(self, seconds_max: float) -> list[str]:
        """Wait for what is measured; return what has not recovered."""
        if self._tasks:
            done, open_ = await asyncio.wait(self._tasks, timeout=seconds_max)
            for task in open_:
                task.cancel()
            for task in done:
                task.result()  # a measurement that failed is no recovery
            return [f"{self._tasks[t].kind} of {self._tasks[t].target}: serves not" for t in open_]
        return []

    async def _measure(self, fault: Fault, served: Coroutine[None, None, None]) -> None:
        began = time.monotonic()
        await served
        self.done.append(Recovery(fault, time.monotonic() - began))

    async def _take_over(self) -> None:
        """Wait until each lease of now is over; measure those that ended with their worker.

        The events of the worker that lives are leased too: it finishes or releases them.
        """
        began = time.monotonic()
        leased = await self._fetch(LEASED) or []
        before = [[row[n] for row in leased] for n in ("id", "lease_token", "leases_lost")]
        taken: dict[str, float] = {}

        async def over() -> bool:
            rows = await self._fetch(LEASED_BEFORE, *before)
            for row in rows or ():
                if row["lost"]:
                    taken.setdefault(row["id"], time.monotonic() - began)
            return rows is not None and not any(row["still"] for row in rows)

        await self._until(over)
        if taken:
            self.takeovers.append(Takeover(len(taken), max(taken.values())))

    async def _serves_again(self, server: str, applies: Callable[[], Awaitable[bool]]) -> None:
        """Wait until events are applied again and, where it is PostgreSQL, requests accepted."""
        if server == plan.POSTGRES:
            await self._accepts(self.probes[plan.WEBS[1]])
        await self._until(applies)

    async def _accepts(self, probe: Client) -> None:
        """Wait until a web process accepts a debit, which the journal records like any other."""
        key = f"probe-{next(self._numbers)}"
        debit = await debit_once(probe, self.organization, key, Decimal("0.01"))
        probe.journal.debits.append(debit)

    async def _works(self, *conditions: Callable[[], Awaitable[bool]]) -> None:
        """Wait until a worker is ready, and an event that came since is applied."""
        for holds in conditions:
            await self._until(holds)

    def _is_ready(self, name: str) -> Callable[[], Awaitable[bool]]:
        """Return whether a worker runs and says that it is ready; each start has its own log."""
        process = self.installation.processes[name]

        async def ready() -> bool:
            return process.is_running and b'"worker.ready"' in process.log_file.read_bytes()

        return ready

    def _applies_new(self) -> Callable[[], Awaitable[bool]]:
        """Return whether an event that was received since now is applied."""
        now = datetime.now(UTC)

        async def applies() -> bool:
            return bool(await self._fetch(APPLIED_SINCE, now))

        return applies

    async def _fetch(self, query: str, *arguments: object) -> list[asyncpg.Record] | None:
        """Return the rows of a query; None where PostgreSQL is away."""
        try:
            connection = await self.installation.connect()
        except AWAY:
            return None
        try:
            return await connection.fetch(query, *arguments)
        except AWAY:
            return None
        finally:
            connection.terminate()

    async def _until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        while not await holds():  # noqa: ASYNC110 - other processes do the work
            await asyncio.sleep(LOOK_SECONDS)
