"""Drains the inbox: claims batches under a lease and applies them until nothing is due."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from shared import outages
from shared.db.deadline import in_time
from shared.db.pool import AWAY, UNAVAILABLE, is_reported
from shared.errors import LeaseLostError
from shared.events.service import Applier
from shared.inbox import store
from shared.inbox.model import ClaimedEvent, Lane
from worker.lease_renewal import renewed

if TYPE_CHECKING:
    from shared.db.pool import Pool

log = structlog.get_logger()

BATCH_ROWS_MAX = 200
LEASE_SECONDS = 6
# For how long a batch may plan its work: its lease is renewed meanwhile.
KEPT = timedelta(seconds=30)
STOP_SECONDS_MAX = 5
RELEASE_SECONDS_MAX = 2


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """The number of events of a claim, and of concurrent claims in a process."""

    rows_max: int
    at_once_max: int


LIMITS = {
    Lane.SHARED: LaneLimits(BATCH_ROWS_MAX, 3),
    Lane.STRIPE: LaneLimits(20, 3),
    Lane.ALONE: LaneLimits(50, 1),
    # One event at a time, so that a crash affects no other event.
    Lane.SUSPECT: LaneLimits(1, 1),
}
_LANES_WITH_STRIPE = frozenset({Lane.STRIPE, Lane.SUSPECT})


class Drainer:
    """Claims and applies events; one instance a process, any number of processes.

    Each lane has its own slots: an event that waits for a lock or for Stripe holds no slot of the
    shared lane for new events.
    """

    def __init__(
        self,
        pool: Pool,
        applier: Applier,
        make_token: Callable[[], UUID],
        lease: timedelta = timedelta(seconds=LEASE_SECONDS),
    ) -> None:
        self._pool = pool
        self._applier = applier
        self._make_token = make_token
        self._lease = lease
        self._slots = {lane: asyncio.Semaphore(at.at_once_max) for lane, at in LIMITS.items()}
        self._started: dict[Lane, set[asyncio.Task[None]]] = {lane: set() for lane in LIMITS}
        # Lanes that were started while all of their slots were in use: drained once more.
        self._again: set[Lane] = set()
        self._stopping = False

    def stop(self) -> None:
        """End every drain after its current batch."""
        self._stopping = True

    async def close(self) -> None:
        """Wait a few seconds for the running lanes; release the events of the others."""
        self.stop()
        tasks = [task for started in self._started.values() for task in started]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=STOP_SECONDS_MAX)
        for task in late:
            task.cancel()
        if late:  # a statement that a frozen server has ends when its own time is over
            await asyncio.wait(late, timeout=2 * RELEASE_SECONDS_MAX)

    async def drain(self) -> int:
        """Apply all due events of every lane; return how many this drain claimed itself.

        An event that was committed before the call is claimed by this drain or leased by another.
        Raises what asyncpg raises while PostgreSQL is away.
        """
        taken = 0
        while True:
            count = sum([await self._drain_lane(lane, self._applier) for lane in LIMITS])
            taken += count
            tasks = [task for started in self._started.values() for task in started]
            await asyncio.gather(*tasks)
            if not count and not tasks:
                return taken

    async def drain_new(self) -> int:
        """Apply new events; return how many this drain claimed.

        Those that need Stripe continue afterwards. Of a backlog, two batches are leased at a time:
        one is read or logged while PostgreSQL works for the other. They take turns to commit,
        because batches often lock the same accounts. A second batch that is held up continues
        afterwards too: the caller has wakeups to read.
        """
        pair = replace(self._applier, turn=asyncio.Lock())
        return await self._drain_lane(Lane.SHARED, pair)

    async def start_other_lanes(self) -> float | None:
        """Start draining every lane with due events but the shared one; do not wait for them.

        Returns in how many seconds the next event of another of these lanes is due: of one that
        waits to be tried again, or whose worker may have died. None: there is none.
        """
        others = LIMITS.keys() - {Lane.SHARED}
        async with self._pool.acquire() as connection:
            due_in = await store.due_in(connection, others)
        for lane, seconds in due_in.items():
            if seconds <= 0:
                self._start(lane)
        return min((seconds for seconds in due_in.values() if seconds > 0), default=None)

    def _start_beside(self, lane: Lane, applier: Applier) -> None:
        """Start another drain of a lane; of the shared one only the second, if a slot is free.

        Its wakeups start drains as well, and the three slots bound what is held in memory.
        """
        is_second = not self._started[lane] and not self._slots[lane].locked()
        if lane is Lane.STRIPE or (lane is Lane.SHARED and is_second):
            self._start(lane, applier)

    def _start(self, lane: Lane, applier: Applier | None = None) -> None:
        started = self._started[lane]
        if self._stopping:
            return
        if len(started) >= LIMITS[lane].at_once_max:
            self._again.add(lane)
            return
        task = asyncio.create_task(self._run(lane, applier or self._applier))
        started.add(task)
        task.add_done_callback(started.discard)

    async def _run(self, lane: Lane, applier: Applier) -> None:
        try:
            await self._drain_lane(lane, applier)
            while lane in self._again:
                self._again.discard(lane)
                await self._drain_lane(lane, applier)
        except Exception as error:  # the leases expire; other drains continue
            if not (isinstance(error, UNAVAILABLE) and outages.POSTGRES.failed(error)):
                log.exception("drainer.failed", lane=lane)

    async def _drain_lane(self, lane: Lane, applier: Applier) -> int:
        taken = 0
        async with self._slots[lane]:
            more = True
            while more and not self._stopping:
                count, more = await self._drain_batch(lane, applier)
                taken += count
        return taken

    async def _drain_batch(self, lane: Lane, applier: Applier) -> tuple[int, bool]:
        """Claim and apply a batch; return its size, and whether more events may be due.

        What is committed after the claim has a wakeup of its own.
        """
        token = self._make_token()
        async with self._pool.acquire() as connection:
            events = await store.claim(
                connection,
                rows_max=LIMITS[lane].rows_max,
                token=token,
                lease=self._lease,
                lane=lane,
            )
        if not events:
            return 0, False
        is_full = len(events) == LIMITS[lane].rows_max
        if is_full:  # there may be more
            self._start_beside(lane, applier)
        try:
            await self._apply(lane, applier, token, events)
        except LeaseLostError:
            log.warning("drainer.lease_lost", events=len(events), lane=lane)
        except asyncio.CancelledError:
            await self._release(lane, token, events)
            raise
        except AWAY as error:
            # PostgreSQL still answers: a lease that expires would count against the events.
            if is_reported(error):
                await self._release(lane, token, events)
            raise
        # Other lanes may have released events of this batch, which are due now.
        return len(events), is_full or lane is not Lane.SHARED or events[0].types_paused

    async def _apply(
        self, lane: Lane, applier: Applier, token: UUID, events: list[ClaimedEvent]
    ) -> None:
        async with renewed(self._pool, token, [event.key for event in events], self._lease):
            if lane in _LANES_WITH_STRIPE:
                await applier.apply(token, events, self._lease, kept=KEPT)
            elif await applier.apply_without_asking(token, events, KEPT):
                self._start(Lane.STRIPE)

    async def _release(self, lane: Lane, token: UUID, events: list[ClaimedEvent]) -> None:
        """Release events at once; if PostgreSQL does not do it in time, their lease expires."""
        with suppress(*UNAVAILABLE):
            await in_time(self._store_release(lane, token, events), RELEASE_SECONDS_MAX)

    async def _store_release(self, lane: Lane, token: UUID, events: list[ClaimedEvent]) -> None:
        async with self._pool.acquire() as connection:
            await store.release(connection, token, [event.key for event in events], lane=lane)
