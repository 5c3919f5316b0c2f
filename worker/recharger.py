"""Works on recharge attempts: as soon as one is armed, and on a clock."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from shared.db.pool import UNAVAILABLE, connect
from shared.recharge import service
from shared.recharge.charger import Charger

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

log = structlog.get_logger()

CHANNEL = "prepaid_recharge"
INTERVAL_SECONDS = 1.0
TICK_SECONDS = 5.0
LANES = 4


class Recharger:
    """Carries due attempts, and arms what the clock says.

    A lane waits for the slowest of the attempts that it took; the other lanes go on meanwhile.
    PostgreSQL tells of an armed attempt when its debit commits; where that is missed, the clock
    finds it. Two of these at once share the work: each attempt is under one lease.
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
        self._told = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set. PostgreSQL being away is waited out."""
        stopping = asyncio.create_task(stop.wait())
        async with asyncio.TaskGroup() as loops:
            listening = loops.create_task(self._listen())
            ticking = loops.create_task(self._tick_for_ever())
            async with asyncio.TaskGroup() as lanes:
                for _ in range(LANES):
                    lanes.create_task(self._work_until(stopping))
            listening.cancel()
            ticking.cancel()

    async def _work_until(self, stopping: asyncio.Task[bool]) -> None:
        while not stopping.done():
            self._told.clear()  # whichever lane clears it, works afterwards
            try:
                while not stopping.done() and await self._charger.work():
                    continue
            except UNAVAILABLE as error:
                log.warning("recharger.database_unavailable", error=repr(error))
            told = asyncio.create_task(self._told.wait())
            await asyncio.wait(
                {told, stopping},
                timeout=self._interval_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            told.cancel()

    async def _tick_for_ever(self) -> None:
        while True:
            try:
                async with self._pool.acquire() as connection, connection.transaction():
                    await service.tick(connection, now=datetime.now(UTC))
            except UNAVAILABLE as error:
                log.warning("recharger.database_unavailable", error=repr(error))
            await asyncio.sleep(TICK_SECONDS)

    async def _listen(self) -> None:
        """Listen on a connection of its own, and again after it broke."""
        while True:
            try:
                connection = await connect(self._database_url, application_name="prepaid-listen")
            except UNAVAILABLE as error:
                log.warning("recharger.cannot_listen", error=repr(error))
                await asyncio.sleep(self._interval_seconds)
                continue
            try:
                await self._listen_on(connection)
            finally:
                connection.terminate()

    async def _listen_on(self, connection: Connection) -> None:
        ended = asyncio.Event()
        connection.add_termination_listener(lambda _connection: ended.set())
        await connection.add_listener(CHANNEL, lambda *_told: self._told.set())
        self._told.set()  # what was told before we listened
        await ended.wait()
