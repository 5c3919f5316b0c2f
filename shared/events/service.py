"""Applying leased events: effects and outcome commit together, or not at all."""

from __future__ import annotations

import random as random_module
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from shared.db.pool import UNAVAILABLE
from shared.errors import EventError, PrepaidError
from shared.events.effects import CameTo, carry_out
from shared.events.model import Nothing, Outcome
from shared.events.report import report
from shared.ids import new_id
from shared.inbox import rules as inbox_rules
from shared.inbox import store as inbox
from shared.inbox.model import ClaimedEvent, EventState, Settlement
from shared.ledger.model import PostingResult

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

log = structlog.get_logger()

_SUCCEEDED = frozenset({EventState.APPLIED, EventState.IGNORED})


class LeaseLostError(PrepaidError):
    """The lease on these events has passed to another worker; nothing was committed."""


# Not a failure of an event: PostgreSQL is away, or another worker has the event now. Its lease runs
# out by itself, and it is due again.
_NOT_THE_EVENT = (*UNAVAILABLE, LeaseLostError)


@dataclass(frozen=True, slots=True)
class Applier:
    """Applies leased events. Time, randomness and ids are passed in.

    Guarantee: an event's effects, its outcome and the fence commit in one transaction. An event
    that fails unexpectedly is tried alone and takes no other event with it.
    """

    pool: Pool
    credits_per_unit: Decimal
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    random: Callable[[], float] = random_module.random
    make_id: Callable[[], UUID] = new_id

    async def apply(self, token: UUID, events: Sequence[ClaimedEvent]) -> list[Outcome]:
        """Apply events held under one lease; return what each came to, in no particular order.

        Raises what PostgreSQL raises when it is away, and LeaseLostError when another worker has
        taken over: the rest of the lease is then left to run out.
        """
        # What has failed before, or took its worker down with it, is tried alone from the start.
        fresh = [event for event in events if event.attempts == 1]
        alone = [event for event in events if event.attempts != 1]
        outcomes: list[Outcome] = []
        if fresh:
            try:
                outcomes = await self._commit(token, fresh)
            except _NOT_THE_EVENT:
                raise
            except Exception as error:  # noqa: BLE001 - each is tried alone and the culprit recorded
                log.warning("events.batch_failed", events=len(fresh), error=repr(error))
                alone = [*fresh, *alone]
        return outcomes + await self._apply_each(token, alone)

    async def _apply_each(self, token: UUID, events: Sequence[ClaimedEvent]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        paused: set[str] = set()
        for index, event in enumerate(events):
            if event.type in paused:
                continue
            try:
                outcomes += await self._commit(token, [event])
            except _NOT_THE_EVENT:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, it is kept with its trace
                outcomes.append(await self._record_failure(token, event, error))
                if await self._pause_if_broken(token, event.type, events[index + 1 :]):
                    paused.add(event.type)
        return outcomes

    async def _commit(self, token: UUID, events: Sequence[ClaimedEvent]) -> list[Outcome]:
        async with self.pool.acquire() as connection, connection.transaction():
            came_to = await carry_out(
                connection,
                events,
                credits_per_unit=self.credits_per_unit,
                make_id=self.make_id,
            )
            outcomes = list(map(self._outcome, events, came_to))
            await _settle(connection, token, events, outcomes)
        report(events, outcomes, now=self.now())
        return outcomes

    def _outcome(self, event: ClaimedEvent, came_to: CameTo) -> Outcome:
        if isinstance(came_to, EventError):
            return Outcome(self._failure(event, came_to))
        if isinstance(came_to, Nothing):
            return Outcome(Settlement(event.key, EventState.IGNORED, reason=came_to.reason))
        settlement = Settlement(event.key, EventState.APPLIED)
        if isinstance(came_to, PostingResult):
            settlement = replace(settlement, organization_id=came_to.organization_id)
            return Outcome(settlement, came_to)
        return Outcome(settlement)

    def _failure(self, event: ClaimedEvent, error: Exception) -> Settlement:
        trace = "".join(traceback.format_exception(error))
        return inbox_rules.after_failure(event, error, trace, now=self.now(), random=self.random())

    async def _record_failure(self, token: UUID, event: ClaimedEvent, error: Exception) -> Outcome:
        outcome = Outcome(self._failure(event, error))
        async with self.pool.acquire() as connection, connection.transaction():
            await _settle(connection, token, [event], [outcome])
        report([event], [outcome], now=self.now())
        return outcome

    async def _pause_if_broken(
        self, token: UUID, event_type: str, left: Sequence[ClaimedEvent]
    ) -> bool:
        """Count an unexpected failure; hold the type back when it is the handler that is broken."""
        async with self.pool.acquire() as connection, connection.transaction():
            failures = await inbox.count_failure(connection, event_type)
            pause = inbox_rules.breaker_pause(failures)
            if pause is None:
                return False
            until = self.now() + pause
            await inbox.pause_type(connection, event_type, until)
            held = [event.key for event in left if event.type == event_type]
            await inbox.release(connection, token, held, available_at=until)
        log.error("events.type_paused", type=event_type, failures=failures, until=str(until))
        return True


async def _settle(
    connection: Connection,
    token: UUID,
    events: Sequence[ClaimedEvent],
    outcomes: Sequence[Outcome],
) -> None:
    settled = await inbox.settle(
        connection,
        token,
        [outcome.settlement for outcome in outcomes],
        types_recovered={
            event.type
            for event, outcome in zip(events, outcomes, strict=True)
            if outcome.settlement.state in _SUCCEEDED
        },
    )
    if settled != len(outcomes):
        raise LeaseLostError
