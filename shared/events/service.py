"""Applying leased events: effects and outcome commit together, or not at all."""

from __future__ import annotations

import asyncio
import random as random_module
import traceback
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

import structlog

from shared.db.pool import AWAY, CONTENTION, LOCKED
from shared.errors import (
    EventError,
    LeaseLostError,
    PrepaidError,
    StripeFailedError,
    StripeThrottledError,
)
from shared.events import rules, store
from shared.events.effects import EventResult, apply_batch
from shared.events.model import Applied, ApplyContext, Ignored, Outcome, Unanswered
from shared.events.patience import BRIEF, LONG, Patience
from shared.events.report import report
from shared.ids import new_id
from shared.inbox import rules as inbox_rules
from shared.inbox import store as inbox
from shared.inbox.model import ClaimedEvent, EventState, Lane, Settlement
from shared.ledger.model import PostingResult
from shared.payments.lookup import Answers, Question
from shared.payments.model import SaleTerms

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

log = structlog.get_logger()

# An answer may lead to another question, such as from an invoice to its prices.
QUESTIONS_IN_ROW_MAX = 3
# Each question renews the lease; the last answer is applied within another.
ANSWER_LEASES_MAX = QUESTIONS_IN_ROW_MAX + 1
THROTTLED_SECONDS = 1
LEASE = timedelta(seconds=30)

_SUCCEEDED = frozenset({EventState.APPLIED, EventState.IGNORED})


class QuestionsInRowError(PrepaidError):
    """No answer of Stripe's was enough: each led to another question."""

    def __init__(self, question: Question) -> None:
        super().__init__(
            f"Stripe was asked {QUESTIONS_IN_ROW_MAX} times, and {question} is still not answered."
        )


# Not a failure of an event: PostgreSQL is away, or another worker has the event now. Its lease runs
# out by itself, and it is due again.
_NOT_THE_EVENT = (*AWAY, LeaseLostError)


class Lookup(Protocol):
    """Says what Stripe has of an object, or why it did not; `StripeLookup` does."""

    async def answers(self, questions: Collection[Question]) -> Answers:
        """Return an answer to each question, or the error that stands in its place."""
        ...


@dataclass(frozen=True, slots=True)
class Applier:
    """Applies leased events. Time, randomness and ids are passed in.

    Guarantee: an event's effects, its outcome and the fence commit in one transaction. An event
    that fails unexpectedly, or waits too long for a lock, is tried alone and takes no other event
    with it. `lookup` asks Stripe
    what an event does not say, while no transaction is open; without it a payment is decided by its
    event alone, and events of refunds and disputes fail.
    """

    pool: Pool
    terms: SaleTerms
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    random: Callable[[], float] = random_module.random
    make_id: Callable[[], UUID] = new_id
    lookup: Lookup | None = None

    async def apply(
        self, token: UUID, events: Sequence[ClaimedEvent], lease: timedelta = LEASE
    ) -> list[Outcome]:
        """Apply events held under one lease; return what each came to, in no particular order.

        Stripe is asked for what they do not say, and the lease renewed before. Those that are given
        back untried have no outcome. Raises what PostgreSQL raises when it is away, and
        LeaseLostError when another worker has taken over: the rest of the lease is then left to run
        out.
        """
        done = await self._first_pass(token, events, Patience(LONG, pass_time=lease / 2))
        # Whoever waits for Stripe keeps nobody waiting: the others are committed by now.
        groups: dict[Question, list[ClaimedEvent]] = {}
        for event, question in done.unanswered:
            groups.setdefault(question, []).append(event)
        # They wait for locks one after the other, and together no longer than a lease can bear.
        turn, patience = asyncio.Lock(), Patience(LONG, pass_time=ANSWER_LEASES_MAX * lease)
        answered = await asyncio.gather(
            *(
                self._answer(
                    token, _Progress(unanswered=[(e, q) for e in asking]), lease, turn, patience
                )
                for q, asking in groups.items()
            ),
            return_exceptions=True,
        )
        outcomes = done.outcomes
        for found in answered:
            if isinstance(found, BaseException):
                raise found
            outcomes = outcomes + found
        return outcomes

    async def apply_without_asking(
        self, token: UUID, events: Sequence[ClaimedEvent], lease: timedelta = LEASE
    ) -> bool:
        """Apply what needs no answer of Stripe's, and hand the others to their lane.

        Waits for no lock longer than a moment. Returns whether any event was handed over. Raises
        what `apply` raises.
        """
        done = await self._first_pass(token, events, Patience(BRIEF, pass_time=lease / 3))
        if not done.unanswered:
            return False
        keys = [event.key for event, _ in done.unanswered]
        async with self.pool.acquire() as connection:
            await inbox.release(connection, token, keys, lane=Lane.STRIPE)
        return True

    async def _first_pass(
        self, token: UUID, events: Sequence[ClaimedEvent], patience: Patience
    ) -> _Progress:
        done = _Progress()
        poisoned = {e.key: error for e in events if (error := inbox_rules.poison(e))}
        for event in events:
            if event.key in poisoned:
                outcome = await self._record_failure(token, event, poisoned[event.key])
                done.outcomes.append(outcome)
        events = [event for event in events if event.key not in poisoned]
        # What has failed before is tried alone from the start.
        alone = [e for e in events if e.has_failed or rules.is_alone(e.type)]
        fresh = [e for e in events if not (e.has_failed or rules.is_alone(e.type))]
        batches = [fresh] if fresh else []
        while batches:
            batch = batches.pop()
            try:
                done += await self._commit(token, batch, self._context(), patience)
            except _NOT_THE_EVENT:
                raise
            except Exception as error:  # noqa: BLE001 - the culprit is found, and recorded
                log.warning("events.batch_failed", events=len(batch), error=repr(error))
                half = len(batch) // 2
                if isinstance(error, LOCKED) and half:
                    patience.spend()
                    batches += [batch[half:], batch[:half]]
                else:
                    alone = [*batch, *alone]
        return done + await self._apply_each(token, alone, self._context(), patience)

    def _context(self) -> ApplyContext:
        answers: Answers | None = None if self.lookup is None else {}
        return ApplyContext(self.terms, self.make_id, self.now(), answers)

    async def _answer(
        self,
        token: UUID,
        done: _Progress,
        lease: timedelta,
        turn: asyncio.Lock,
        patience: Patience,
    ) -> list[Outcome]:
        """Ask Stripe what events need to know, and apply them; `turn` is held for each transaction.

        An event that no answer is enough for has failed, and says so.
        """
        context = self._context()
        for _ in range(QUESTIONS_IN_ROW_MAX):
            if not done.unanswered:
                return done.outcomes
            context = await self._ask(token, done.unanswered, context, lease)
            asking = [event for event, _ in done.unanswered]
            async with turn:
                done = _Progress(done.outcomes) + await self._apply_each(
                    token, asking, context, patience
                )
        for event, question in done.unanswered:
            outcome = await self._record_failure(token, event, QuestionsInRowError(question))
            done.outcomes.append(outcome)
        return done.outcomes

    async def _ask(
        self,
        token: UUID,
        unanswered: Sequence[tuple[ClaimedEvent, Question]],
        before: ApplyContext,
        lease: timedelta,
    ) -> ApplyContext:
        """Ask Stripe once for each thing that these events need to know, besides what it has said.

        The lease is renewed first: an answer takes less than that. All answers are dated by the
        oldest of them.
        """
        assert self.lookup is not None  # noqa: S101 - without it, no effect asks
        keys = [event.key for event, _ in unanswered]
        async with self.pool.acquire() as connection:
            if await inbox.renew(connection, token, keys, lease) != set(keys):
                raise LeaseLostError
            as_of = await store.clock(connection)
        answers = await self.lookup.answers([question for _, question in unanswered])
        return replace(
            self._context(),
            answers={**(before.answers or {}), **answers},
            as_of=before.as_of or as_of,
        )

    async def _apply_each(
        self,
        token: UUID,
        events: Sequence[ClaimedEvent],
        context: ApplyContext,
        patience: Patience,
    ) -> _Progress:
        done = _Progress()
        paused: set[str] = set()
        for index, event in enumerate(events):
            if event.type in paused:
                continue
            if patience.is_over:
                left = [e.key for e in events[index:] if e.type not in paused]
                async with self.pool.acquire() as connection:
                    await inbox.release(connection, token, left, lane=Lane.ALONE)
                break
            try:
                done += await self._commit(token, [event], context, patience)
            except _NOT_THE_EVENT:
                raise
            except StripeThrottledError as error:
                await self._postpone(token, event, error)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is kept with its trace
                done.outcomes.append(await self._record_failure(token, event, error))
                if isinstance(error, LOCKED):
                    patience.spend()
                if isinstance(error, (*CONTENTION, StripeFailedError)):
                    continue  # what others lock, or Stripe says, says nothing about the handler
                if await self._pause_if_broken(token, event.type, events[index + 1 :]):
                    paused.add(event.type)
        return done

    async def _commit(
        self,
        token: UUID,
        events: Sequence[ClaimedEvent],
        context: ApplyContext,
        patience: Patience,
    ) -> _Progress:
        """Commit what the events come to; those that need Stripe's answer are left as they were."""
        async with self.pool.acquire() as connection, connection.transaction():
            await inbox.limit_waits(
                connection,
                lock_milliseconds=patience.lock_milliseconds,
                statement_milliseconds=patience.statement_milliseconds,
            )
            results = await apply_batch(connection, events, context)
            found = list(zip(events, results, strict=True))
            settled = [(e, self._outcome(e, r)) for e, r in found if not isinstance(r, Unanswered)]
            outcomes = [outcome for _, outcome in settled]
            await _settle(connection, token, [event for event, _ in settled], outcomes)
        report([event for event, _ in settled], outcomes, now=self.now())
        return _Progress(outcomes, [(e, r.question) for e, r in found if isinstance(r, Unanswered)])

    async def _postpone(
        self, token: UUID, event: ClaimedEvent, error: StripeThrottledError
    ) -> None:
        """Give an event back until Stripe may be asked again: it has failed at nothing."""
        seconds = error.retry_after_seconds or THROTTLED_SECONDS
        due_in = timedelta(seconds=seconds * (1 + self.random()))
        async with self.pool.acquire() as connection:
            await inbox.release(connection, token, [event.key], lane=Lane.STRIPE, due_in=due_in)
        log.info("events.postponed", event_id=event.id, type=event.type, reason=error.detail)

    def _outcome(self, event: ClaimedEvent, result: EventResult) -> Outcome:
        match result:
            case EventError():
                return Outcome(self._failure(event, result))
            case Ignored(reason, waits_for):
                return Outcome(
                    Settlement(event.key, EventState.IGNORED, reason=reason, waits_for=waits_for)
                )
            case PostingResult() | Applied():
                organization_id = result.organization_id
                settlement = Settlement(
                    event.key, EventState.APPLIED, organization_id=organization_id
                )
                posting = result if isinstance(result, PostingResult) else None
                return Outcome(settlement, posting)
            case _:
                return Outcome(Settlement(event.key, EventState.APPLIED))

    def _failure(self, event: ClaimedEvent, error: Exception) -> Settlement:
        trace = "".join(traceback.format_exception(error))
        return inbox_rules.after_failure(event, error, trace, random=self.random())

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
            await inbox.pause_type(connection, event_type, pause)
            held = [event.key for event in left if event.type == event_type]
            await inbox.release(connection, token, held, lane=Lane.SHARED, due_in=pause)
        until = self.now() + pause
        log.error("events.type_paused", type=event_type, failures=failures, until=str(until))
        return True


@dataclass(frozen=True, slots=True)
class _Progress:
    """What events came to so far, and what is to be asked for the others."""

    outcomes: list[Outcome] = field(default_factory=list)
    unanswered: list[tuple[ClaimedEvent, Question]] = field(default_factory=list)

    def __add__(self, other: _Progress) -> _Progress:
        return _Progress(self.outcomes + other.outcomes, self.unanswered + other.unanswered)


async def _settle(
    connection: Connection,
    token: UUID,
    events: Sequence[ClaimedEvent],
    outcomes: Sequence[Outcome],
) -> None:
    if not outcomes:
        return
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
