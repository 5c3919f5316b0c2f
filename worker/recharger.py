"""The loops that process recharge attempts: at a notification, and at an interval."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from shared.db.pool import connect
from shared.recharge import service
from shared.recharge.flow import Charger
from worker.clock import pause, repeat

if TYPE_CHECKING:
    from shared.db.pool import Pool

CHANNEL = "prepaid_recharge"
INTERVAL_SECONDS = 1.0
TICK_SECONDS = 5.0
# The pages of rules that a tick reads, each in a transaction of its own.
PAGES_A_TICK_MAX = 10
LANES = 4
# A listening connection is probed, because a server that vanished sends nothing.
ALIVE_SECONDS = 10.0


class Recharger:
    """Processes due attempts, and arms schedules and missed attempts.

    A lane waits for the slowest of the attempts that it took; the other lanes do not. PostgreSQL
    notifies of an armed attempt when its debit commits; the clock arms and wakes missed ones. One
    idle lane looks at each of these, and the next one where there may be more than it took.
    Several rechargers share the work: each attempt is under one lease.
    """

    def __init__(
        self,
        pool: Pool,
        charger: Charger,
        database_url: str,
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> None:
        self._pool = pool
        self._charger = charger
        self._database_url = database_url
        self._interval_seconds = interval_seconds
        self._armed = asyncio.Event()
        self._looked_at = float("-inf")
        self._after = service.FIRST

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then finish the running attempts. Failures are retried."""
        async with asyncio.TaskGroup() as loops:
            for lane in range(1, LANES + 1):
                loops.create_task(
                    repeat(
                        f"recharger_{lane}",
                        partial(self._work, stop),
                        stop,
                        interval_seconds=self._interval_seconds,
                        wake=self._armed,
                    )
                )
            loops.create_task(
                repeat("recharge_clock", self._tick, stop, interval_seconds=TICK_SECONDS)
            )
            loops.create_task(
                repeat(
                    "recharge_listener",
                    partial(self._listen, stop),
                    stop,
                    interval_seconds=self._interval_seconds,
                )
            )

    async def _work(self, stop: asyncio.Event) -> None:
        idle_seconds = time.monotonic() - self._looked_at
        if not self._armed.is_set() and idle_seconds < self._interval_seconds / 2:
            return  # another lane has looked
        self._looked_at = time.monotonic()
        self._armed.clear()  # the lane that clears it works afterwards
        while not stop.is_set() and await self._charger.work(on_full=self._armed.set):
            continue

    async def _tick(self) -> None:
        for _ in range(PAGES_A_TICK_MAX):
            async with self._pool.acquire() as connection, connection.transaction():
                after = await service.tick(connection, now=datetime.now(UTC), after=self._after)
            self._after = after
            if after == service.FIRST:
                break

    async def _listen(self, stop: asyncio.Event) -> None:
        """Listen on a connection of its own until it breaks."""
        connection = await connect(self._database_url, application_name="prepaid-listen")
        try:
            ended = asyncio.Event()
            connection.add_termination_listener(lambda _connection: ended.set())
            await connection.add_listener(CHANNEL, lambda *_armed: self._armed.set())
            self._armed.set()  # attempts that were armed before LISTEN
            while not (ended.is_set() or stop.is_set()):
                await pause(ALIVE_SECONDS, ended, stop)
                if not (ended.is_set() or stop.is_set()):
                    await connection.execute("SELECT 1", timeout=ALIVE_SECONDS)
        finally:
            connection.terminate()
