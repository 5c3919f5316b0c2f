"""The loop that sends outbound messages: claims due ones under a lease, sends, records outcomes."""

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
from shared.outbound.model import ClaimedMessage, DeliveryOutcome, DeliveryResponse, MessageState
from shared.outbound.sender import Sender
from worker.clock import repeat

if TYPE_CHECKING:
    from shared.db.pool import Pool

log = structlog.get_logger()

INTERVAL_SECONDS = 1.0
UNDER_WAY_MAX = 64
UNDER_WAY_PER_ENDPOINT_MAX = 4
# Longer than an attempt and the write of its outcome.
LEASE_SECONDS = 60


class Messenger:
    """Sends due messages, one instance a process; any number of processes share the work.

    Guarantee: a committed message is delivered at least once, or dead, whatever crashes in between.
    It is delivered twice only if the receiver accepted it and the outcome could not be written. A
    slow endpoint has at most a few concurrent attempts, and other endpoints do not wait for it.
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
        """Stop claiming; running attempts finish."""
        self._stopping = True

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop` is set. Survives outages of PostgreSQL."""
        await repeat("messenger", self.deliver, stop, interval_seconds=self._interval_seconds)
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def deliver(self) -> int:
        """Attempt all due messages until none is due or running; return their number.

        Claims newly due ones whenever an attempt ends, and every interval. Raises what asyncpg
        raises while PostgreSQL is away.
        """
        taken = 0
        while True:
            # Read before the claim: an attempt that ends during the claim still counts.
            idle = not self._under_way
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
        """Send one message and record the outcome; if that fails, the lease expires."""
        try:
            if message.endpoint_disabled:
                response, outcome = DeliveryResponse(None), rules.for_disabled_endpoint(message)
            else:
                response = await self._sender.send(message, now=self._now())
                outcome = rules.after_attempt(
                    message, response, now=self._now(), random=self._random()
                )
            gone = rules.says_gone(response)
            async with self._pool.acquire() as connection:
                finished = await service.finish(connection, token, outcome, gone=gone)
        except UNAVAILABLE as error:
            if not outages.POSTGRES.failed(error):
                log.warning("outbound.outcome_not_written", error=repr(error))
        except Exception:  # a bug: it must not stop the other attempts
            log.exception("outbound.failed", message_id=rules.public_id(message.key.id))
        else:
            _report(message, outcome, finished=finished, gone=gone)


def _report(
    message: ClaimedMessage, outcome: DeliveryOutcome, *, finished: bool, gone: bool
) -> None:
    """Log and count a committed outcome: no body, no URL, no secret."""
    about = {
        "message_id": rules.public_id(message.key.id),
        "endpoint_id": str(message.key.endpoint_id),
        "type": str(message.type),
        "attempts": message.attempts,
        "status": outcome.last_status,
    }
    if not finished:
        log.warning("outbound.lease_lost", **about)
        return
    result = "retrying" if outcome.state is MessageState.PENDING else str(outcome.state)
    metrics.OUTBOUND_MESSAGES.labels(message.type, result).inc()
    if outcome.state is MessageState.DELIVERED:
        log.info("outbound.delivered", **about)
    elif outcome.state is MessageState.DEAD:
        log.warning("outbound.dead", **about, reason=outcome.reason)
    else:
        log.warning("outbound.retrying", **about, reason=outcome.reason)
    if gone:
        log.warning("outbound.endpoint_disabled", endpoint_id=about["endpoint_id"])
