"""Sends outbound messages: claims what is due under a lease, sends, records what it came to."""

from __future__ import annotations

import asyncio
import random as random_module
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from shared import metrics, outages
from shared.db.pool import UNAVAILABLE
from shared.outbound import rules, service, store
from shared.outbound.model import Answer, ClaimedMessage, MessageState, Settlement
from shared.outbound.sender import Sender
from worker.clock import repeat

if TYPE_CHECKING:
    from shared.db.pool import Pool

log = structlog.get_logger()

INTERVAL_SECONDS = 1.0
UNDER_WAY_MAX = 64
UNDER_WAY_PER_ENDPOINT_MAX = 4
# Longer than an attempt and the writing of its outcome can take.
LEASE_SECONDS = 60


class Messenger:
    """One of these a process. Any number of them share the messages safely.

    Guarantee: a message that was committed is delivered at least once, or dead, whatever dies in
    between. It is delivered twice only where its receiver took it and the outcome was not written.
    A slow endpoint has a few attempts under way at once, and the others do not wait for it.
    """

    def __init__(
        self,
        pool: Pool,
        sender: Sender,
        make_token: Callable[[], UUID],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        random: Callable[[], float] = random_module.random,
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> None:
        self._pool = pool
        self._sender = sender
        self._make_token = make_token
        self._now = now
        self._random = random
        self._interval_seconds = interval_seconds
        self._under_way: dict[asyncio.Task[None], UUID] = {}
        self._stopping = False

    def stop(self) -> None:
        """Take no more; what is under way ends."""
        self._stopping = True

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop` is set. PostgreSQL being away is waited out."""
        await repeat("messenger", self.deliver, stop, interval_seconds=self._interval_seconds)
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def deliver(self) -> int:
        """Attempt everything that is due, until nothing is and nothing is under way.

        Returns how many attempts that were. What comes due meanwhile is looked for whenever an
        attempt ends, and on the clock. Raises what PostgreSQL raises when it is away.
        """
        taken = 0
        while True:
            idle = (
                not self._under_way
            )  # an attempt that ends during a claim was still counted by it
            if not self._stopping:
                taken += await self._start_due()
            if not self._under_way:
                if idle or self._stopping:
                    return taken
                continue
            await asyncio.wait(
                self._under_way,
                timeout=self._interval_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )

    async def _start_due(self) -> int:
        room = UNDER_WAY_MAX - len(self._under_way)
        if room <= 0:
            return 0
        token = self._make_token()
        async with self._pool.acquire() as connection:
            messages = await store.claim(
                connection,
                rows_max=room,
                per_endpoint_max=UNDER_WAY_PER_ENDPOINT_MAX,
                under_way=Counter(self._under_way.values()),
                token=token,
                lease=timedelta(seconds=LEASE_SECONDS),
            )
        for message in messages:
            task = asyncio.create_task(self._attempt(token, message))
            self._under_way[task] = message.key.endpoint_id
            task.add_done_callback(self._under_way.pop)
        return len(messages)

    async def _attempt(self, token: UUID, message: ClaimedMessage) -> None:
        """Send one message and record the outcome; where that fails, its lease runs out."""
        try:
            if message.endpoint_disabled:
                answer, settlement = Answer(None), rules.for_disabled_endpoint(message)
            else:
                answer = await self._sender.send(message, now=self._now())
                settlement = rules.after_attempt(
                    message, answer, now=self._now(), random=self._random()
                )
            gone = rules.says_gone(answer)
            async with self._pool.acquire() as connection:
                settled = await service.settle(connection, token, settlement, gone=gone)
        except UNAVAILABLE as error:
            if not outages.POSTGRES.failed(error):
                log.warning("messenger.outcome_not_written", error=repr(error))
        except Exception:  # a bug: it must not take the other attempts with it
            log.exception("messenger.failed", message_id=rules.public_id(message.key.id))
        else:
            _report(message, settlement, settled=settled, gone=gone)


def _report(message: ClaimedMessage, settlement: Settlement, *, settled: bool, gone: bool) -> None:
    """Log and count an outcome that is committed: no body, no URL, no secret."""
    about = {
        "message_id": rules.public_id(message.key.id),
        "endpoint_id": str(message.key.endpoint_id),
        "type": str(message.type),
        "attempts": message.attempts,
        "status": settlement.last_status,
    }
    if not settled:
        log.warning("messenger.lease_lost", **about)
        return
    result = "retrying" if settlement.state is MessageState.PENDING else str(settlement.state)
    metrics.OUTBOUND_MESSAGES.labels(message.type, result).inc()
    if settlement.state is MessageState.DELIVERED:
        log.info("messenger.delivered", **about)
    elif settlement.state is MessageState.DEAD:
        log.warning("messenger.dead", **about, reason=settlement.reason)
    else:
        log.warning("messenger.retrying", **about, reason=settlement.reason)
    if gone:
        log.warning("messenger.endpoint_disabled", endpoint_id=about["endpoint_id"])
