"""Receiving events: durable first, then the wakeup."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import structlog

from shared import metrics
from shared.db.group_commit import GroupCommit
from shared.inbox import store
from shared.inbox.model import Delivery, EventKey, EventState, Receipt

if TYPE_CHECKING:
    from shared.db.pool import Pool

log = structlog.get_logger()

# While one commit waits for the disk, the next is filled and sent.
FLUSHES_AT_ONCE_MAX = 2

_OPEN = (EventState.RECEIVED, EventState.RETRYING)


class Inbox:
    """Stores verified events. Concurrent deliveries share one commit."""

    def __init__(self, pool: Pool, send_wakeup: Callable[[], None]) -> None:
        self._pool = pool
        self._send_wakeup = send_wakeup
        self._commits = GroupCommit[Delivery, Receipt](
            self._store, flushes_at_once_max=FLUSHES_AT_ONCE_MAX
        )

    async def receive(self, delivery: Delivery) -> Receipt:
        """Return after the event is committed to PostgreSQL, never before.

        Raises what asyncpg raises while PostgreSQL is away: then Stripe must not get a 200.
        """
        return await self._commits.submit(delivery)

    async def close(self) -> None:
        """Wait for the deliveries in progress."""
        await self._commits.drain()

    async def _store(self, deliveries: Sequence[Delivery]) -> list[Receipt | Exception]:
        async with self._pool.acquire() as connection:
            stored = await store.receive(connection, deliveries)
            if stored:  # before anything else: a worker waits for it
                self._send_wakeup()
        receipts: list[Receipt | Exception] = []
        for delivery in deliveries:
            header = delivery.header
            key = EventKey(header.account or "", header.livemode, header.id)
            receipts.append(Receipt(header.id, duplicate=key not in stored))
            stored.discard(key)
        _log_commit(deliveries)
        return receipts


async def measure_backlog(pool: Pool) -> None:
    """Set the gauges of open, dead and quarantined events: global, from any process."""
    async with pool.acquire() as connection:
        backlog = await store.backlog(connection)
    nothing = (0, 0.0)
    for state in (*_OPEN, EventState.DEAD, EventState.QUARANTINED):
        metrics.INBOX_BACKLOG.labels(state).set(backlog.get(state, nothing)[0])
    metrics.INBOX_OLDEST_SECONDS.set(max(backlog.get(state, nothing)[1] for state in _OPEN))


def _log_commit(deliveries: Sequence[Delivery]) -> None:
    """Log one line a commit, with its deliveries.

    A line for each delivery would cost a fifth of the throughput at full load (measured).
    """
    log.info(
        "inbox.committed",
        deliveries=[f"{d.header.id} {d.header.type} {d.request_id}" for d in deliveries],
    )
