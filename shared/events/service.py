"""Applying leased events: effects and outcome commit together, or not at all."""

from __future__ import annotations

import random as random_module
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

import structlog

from shared.db.pool import UNAVAILABLE
from shared.errors import EventError, PrepaidError
from shared.events import rules, store
from shared.events.effects import CameTo, carry_out
from shared.events.model import Done, Nothing, Outcome, Terms
from shared.events.report import report
from shared.ids import new_id
from shared.inbox import rules as inbox_rules
from shared.inbox import store as inbox
from shared.inbox.model import ClaimedEvent, EventState, Settlement
from shared.ledger.model import PostingResult
from shared.payments.model import Facts, PaymentKey

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

log = structlog.get_logger()

_SUCCEEDED = frozenset({EventState.APPLIED, EventState.IGNORED})


class LeaseLostError(PrepaidError):
    """The lease on these events has passed to another worker; nothing was committed."""


# Not a failure of an event: PostgreSQL is away, or another worker has the event now. Its lease runs
# out by itself, and it is due again.
_NOT_THE_EVENT = (*UNAVAILABLE, LeaseLostError)


class Asks(Protocol):
    """Says what Stripe has of payments, or why it did not; `shared.payments.reversals` does."""

    async def facts(
        self, payments: Collection[PaymentKey]
    ) -> Mapping[PaymentKey, Facts | Exception]:
        """Return an answer for each payment, or the error that stands in its place."""
        ...


@dataclass(frozen=True, slots=True)
class Applier:
    """Applies leased events. Time, randomness and ids are passed in.

    Guarantee: an event's effects, its outcome and the fence commit in one transaction. An event
    that fails unexpectedly is tried alone and takes no other event with it. `reversals` asks Stripe
    what refunds and disputes have come to; without it their events fail, and are tried again.
    """

    pool: Pool
    credits_per_unit: Decimal
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    random: Callable[[], float] = random_module.random
    make_id: Callable[[], UUID] = new_id
    reversals: Asks | None = None

    async def apply(self, token: UUID, events: Sequence[ClaimedEvent]) -> list[Outcome]:
        """Apply events held under one lease; return what each came to, in no particular order.

        Raises what PostgreSQL raises when it is away, and LeaseLostError when another worker has
        taken over: the rest of the lease is then left to run out.
        """
        # What has failed before, or took its worker down with it, is tried alone from the start.
        fresh = [e for e in events if e.attempts == 1 and not rules.is_alone(e.type)]
        alone = [e for e in events if e.attempts != 1 or rules.is_alone(e.type)]
        outcomes: list[Outcome] = []
        if fresh:
            try:
                outcomes = await self._commit(token, fresh, self._terms())
            except _NOT_THE_EVENT:
                raise
            except Exception as error:  # noqa: BLE001 - each is tried alone and the culprit recorded
                log.warning("events.batch_failed", events=len(fresh), error=repr(error))
                alone = [*fresh, *alone]
        # Whoever waits for Stripe keeps nobody waiting: the others are committed by now.
        asked = [event for event in alone if rules.asks_stripe(event.type)]
        others = [event for event in alone if not rules.asks_stripe(event.type)]
        outcomes += await self._apply_each(token, others, self._terms())
        if asked:
            outcomes += await self._apply_each(token, asked, await self._ask(asked))
        return outcomes

    def _terms(self) -> Terms:
        return Terms(self.credits_per_unit, self.make_id, self.now())

    async def _ask(self, events: Sequence[ClaimedEvent]) -> Terms:
        """Ask Stripe once for each payment that these events may have changed."""
        if self.reversals is None:
            return self._terms()
        keys = [key for event in events if (key := rules.question(event)) is not None]
        async with self.pool.acquire() as connection:
            as_of = await store.clock(connection)
        facts = await self.reversals.facts(keys)
        return replace(self._terms(), facts=facts, as_of=as_of)

    async def _apply_each(
        self, token: UUID, events: Sequence[ClaimedEvent], terms: Terms
    ) -> list[Outcome]:
        outcomes: list[Outcome] = []
        paused: set[str] = set()
        for index, event in enumerate(events):
            if event.type in paused:
                continue
            try:
                outcomes += await self._commit(token, [event], terms)
            except _NOT_THE_EVENT:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, it is kept with its trace
                outcomes.append(await self._record_failure(token, event, error))
                if await self._pause_if_broken(token, event.type, events[index + 1 :]):
                    paused.add(event.type)
        return outcomes

    async def _commit(
        self, token: UUID, events: Sequence[ClaimedEvent], terms: Terms
    ) -> list[Outcome]:
        async with self.pool.acquire() as connection, connection.transaction():
            came_to = await carry_out(connection, events, terms)
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
        if isinstance(came_to, Done):
            settlement = replace(settlement, organization_id=came_to.organization_id)
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
