"""Applies leased events: effects and outcome commit in one transaction, or not at all."""

from __future__ import annotations

import asyncio
import random as random_module
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

import structlog

from shared import tracing
from shared.db.pool import AWAY, CONTENTION, LOCKED, is_node_away, limited_transaction
from shared.errors import (
    LeaseLostError,
    StripeFailedError,
    StripeThrottledError,
)
from shared.events import outcomes, rules, store
from shared.events.effects import apply_batch, interpret_batch
from shared.events.model import ApplyContext, ProcessedEvent, Unanswered
from shared.events.nodes import Batches, NodeBatches
from shared.events.patience import BRIEF, LONG, Patience
from shared.events.questions import QUESTIONS_IN_ROW_MAX, QuestionsInRowError
from shared.events.report import report
from shared.events.turn import Turn
from shared.ids import new_id
from shared.inbox import rules as inbox_rules
from shared.inbox import store as inbox
from shared.inbox.model import ClaimedEvent, EventState, Lane
from shared.payments.lookup import Answers, Question
from shared.payments.model import SaleTerms

if TYPE_CHECKING:
    from shared.db.pool import Connection, Connections

log = structlog.get_logger()

# Each question renews the lease; the last answer is applied within another.
ANSWER_LEASES_MAX = QUESTIONS_IN_ROW_MAX + 1
THROTTLED_SECONDS = 1
NODE_SECONDS = 15
LEASE = timedelta(seconds=30)

# Writes down the outcomes of events in the transaction of their effects.
OnFinish = Callable[["Connection", Sequence[ProcessedEvent]], Awaitable[None]]
Report = Callable[[Sequence[ClaimedEvent], Sequence[ProcessedEvent], datetime], None]

_SUCCEEDED = frozenset({EventState.APPLIED, EventState.IGNORED})


def _concerns_all(error: Exception) -> bool:
    """Whether no event can be applied: PostgreSQL is away, or another worker holds the lease.

    The events are due again when their leases expire, or are released.
    """
    return isinstance(error, (*AWAY, LeaseLostError)) and not is_node_away(error)


def _concerns_some(error: Exception) -> bool:
    """Whether an error may be of a few events of a batch, by their rows or by their node."""
    return isinstance(error, CONTENTION) or is_node_away(error)


class Lookup(Protocol):
    """Reads objects from Stripe; implemented by `StripeLookup`."""

    async def answers(self, questions: Collection[Question]) -> Answers:
        """Return the answer to each question, or the error in its place."""
        ...


@dataclass(frozen=True, slots=True)
class Applier:
    """Applies leased events. Time, randomness and ids are passed in.

    Guarantee: an event's effects, its outcome and the check of its lease commit in one transaction.
    An event that fails unexpectedly, or waits too long for a lock, is tried alone and fails no
    other; one whose node of a cluster is away is released, and nothing is counted. `lookup` reads
    from Stripe what an event lacks, while no transaction is open; without it a payment is decided
    by its event alone, and events of refunds and disputes fail. `on_finish` is called in each
    transaction that records outcomes, `report` after its commit; `turn`: see Turn. `nodes` divides
    the batches on a cluster: a transaction writes to one node.
    """

    pool: Connections
    terms: SaleTerms
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    random: Callable[[], float] = random_module.random
    make_id: Callable[[], UUID] = new_id
    lookup: Lookup | None = None
    on_finish: OnFinish | None = None
    report: Report = report
    turn: asyncio.Lock | None = None
    nodes: NodeBatches | None = None

    async def apply(
        self,
        token: UUID,
        events: Sequence[ClaimedEvent],
        lease: timedelta = LEASE,
        *,
        kept: timedelta | None = None,
    ) -> list[ProcessedEvent]:
        """Apply events under one lease; return their results in no particular order.

        Reads from Stripe what the events lack, and renews the lease before. The work is planned
        for a lease, or for `kept` where the caller renews a shorter one meanwhile. Events that are
        released untried have no result. Raises what asyncpg raises while PostgreSQL is away, and
        LeaseLostError where another worker has taken over; the leases then expire.
        """
        kept = lease if kept is None else kept
        patience = Patience(LONG, pass_time=kept / 2)
        with tracing.batch_span("events.apply", [event.id for event in events]):
            progress = await self._first_pass(token, events, patience)
        # Events that need no answer are committed already and do not wait for Stripe.
        groups: dict[Question, list[ClaimedEvent]] = {}
        for event, question in progress.unanswered:
            groups.setdefault(question, []).append(event)
        # Transactions run one at a time; all lock waits together end before the leases do.
        one_at_a_time = asyncio.Lock()
        patience = Patience(LONG, pass_time=ANSWER_LEASES_MAX * kept)
        answered = await asyncio.gather(
            *(
                self._answer(
                    token,
                    _Progress(unanswered=[(e, question) for e in waiting]),
                    lease,
                    one_at_a_time,
                    patience,
                )
                for question, waiting in groups.items()
            ),
            return_exceptions=True,
        )
        processed = progress.processed
        for result in answered:
            if isinstance(result, BaseException):
                raise result
            processed = processed + result
        return processed

    async def apply_without_asking(
        self, token: UUID, events: Sequence[ClaimedEvent], kept: timedelta = LEASE
    ) -> bool:
        """Apply the events that need nothing from Stripe; release the others to Lane.STRIPE.

        Waits only briefly for locks. `kept`: how long the caller keeps their lease. Returns whether
        any event was released to that lane. Raises what `apply` raises.
        """
        patience = Patience(BRIEF, pass_time=kept / 3)
        with tracing.batch_span("events.apply", [event.id for event in events]):
            progress = await self._first_pass(token, events, patience)
        if not progress.unanswered:
            return False
        keys = [event.key for event, _ in progress.unanswered]
        async with self.pool.acquire() as connection:
            await inbox.release(connection, token, keys, lane=Lane.STRIPE)
        return True

    async def _first_pass(
        self, token: UUID, events: Sequence[ClaimedEvent], patience: Patience
    ) -> _Progress:
        progress = _Progress()
        poisoned = {e.key: error for e in events if (error := inbox_rules.poison(e))}
        for event in events:
            if event.key in poisoned:
                progress.processed.append(
                    await self._record_failure(token, event, poisoned[event.key])
                )
        events = [event for event in events if event.key not in poisoned]
        # Events that failed before are applied alone from the start.
        alone = [e for e in events if e.has_failed or rules.is_alone(e.type)]
        fresh = [e for e in events if not (e.has_failed or rules.is_alone(e.type))]
        batches: Batches = [fresh] if fresh else []
        if self.nodes is not None:
            batches = await self.nodes.divide(fresh)
        while batches and not patience.is_over:
            batch = batches.pop()
            try:
                progress += await self._commit(token, batch, self._context(), patience)
            except Exception as error:  # retried alone, then recorded
                if _concerns_all(error):
                    raise
                log.warning("events.batch_failed", events=len(batch), error=repr(error))
                if _concerns_some(error) and (half := len(batch) // 2):
                    if isinstance(error, LOCKED):
                        patience.spend()
                    batches += [batch[half:], batch[:half]]
                else:
                    alone = [*batch, *alone]
        alone = [*(event for batch in reversed(batches) for event in batch), *alone]
        return progress + await self._apply_each(token, alone, self._context(), patience)

    def _context(self) -> ApplyContext:
        answers: Answers | None = None if self.lookup is None else {}
        return ApplyContext(self.terms, self.make_id, self.now(), answers)

    async def _answer(
        self,
        token: UUID,
        progress: _Progress,
        lease: timedelta,
        one_at_a_time: asyncio.Lock,
        patience: Patience,
    ) -> list[ProcessedEvent]:
        """Ask Stripe what the events need, then apply them; hold `one_at_a_time` to apply.

        An event that still has a question after QUESTIONS_IN_ROW_MAX answers has failed.
        """
        context = self._context()
        for _ in range(QUESTIONS_IN_ROW_MAX):
            if not progress.unanswered:
                return progress.processed
            context = await self._ask(token, progress.unanswered, context, lease)
            events = [event for event, _ in progress.unanswered]
            async with one_at_a_time:
                progress = _Progress(progress.processed) + await self._apply_each(
                    token, events, context, patience
                )
        for event, question in progress.unanswered:
            progress.processed.append(
                await self._record_failure(token, event, QuestionsInRowError(question))
            )
        return progress.processed

    async def _ask(
        self,
        token: UUID,
        unanswered: Sequence[tuple[ClaimedEvent, Question]],
        before: ApplyContext,
        lease: timedelta,
    ) -> ApplyContext:
        """Ask Stripe once for each unanswered question; return the context with all answers.

        Renews the lease first, for the time of an answer or until the caller renews it again.
        `as_of` is the time of the oldest answer.
        """
        assert self.lookup is not None  # noqa: S101 - without it, effects raise no QuestionError
        keys = [event.key for event, _ in unanswered]
        async with self.pool.acquire() as connection:
            if await inbox.renew(connection, token, keys, lease) != set(keys):
                raise LeaseLostError
            as_of = await store.clock(connection)
        with tracing.span("events.ask", about=unanswered[0][0].id):
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
        progress = _Progress()
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
                progress += await self._commit(token, [event], context, patience)
            except Exception as error:  # recorded with its traceback
                if _concerns_all(error):
                    raise
                if await self._postpone(token, event, error):
                    continue
                progress.processed.append(await self._record_failure(token, event, error))
                if isinstance(error, LOCKED):
                    patience.spend()
                if isinstance(error, (*CONTENTION, StripeFailedError)):
                    continue
                if await self._pause_if_broken(token, event.type, events[index + 1 :]):
                    paused.add(event.type)
        return progress

    async def _commit(
        self,
        token: UUID,
        events: Sequence[ClaimedEvent],
        context: ApplyContext,
        patience: Patience,
    ) -> _Progress:
        """Commit effects and outcomes; events that need an answer from Stripe stay unchanged."""
        meanings = interpret_batch(events)
        async with (
            Turn(self.turn) as turn,
            self.pool.acquire() as connection,
            limited_transaction(
                connection,
                lock_milliseconds=patience.lock_milliseconds,
                statement_milliseconds=patience.statement_milliseconds,
                planned_once=self.nodes is not None and self.nodes.are_one,
            ),
        ):
            context = replace(context, take_turn=turn.take)
            results = await apply_batch(connection, events, meanings, context)
            pairs = list(zip(events, results, strict=True))
            answered = [(e, r) for e, r in pairs if not isinstance(r, Unanswered)]
            applied = [event for event, _ in answered]
            processed = [
                outcomes.processed(event, result, random=self.random())
                for event, result in answered
            ]
            await self._finish(connection, token, applied, processed)
        self.report(applied, processed, self.now())
        return _Progress(
            processed, [(e, r.question) for e, r in pairs if isinstance(r, Unanswered)]
        )

    async def _postpone(self, token: UUID, event: ClaimedEvent, error: Exception) -> bool:
        """Release an event that waits for Stripe or its node; return whether it does.

        It is due after one to two times the wait, and not counted as an attempt.
        """
        if isinstance(error, StripeThrottledError):
            lane, seconds = Lane.STRIPE, error.retry_after_seconds or THROTTLED_SECONDS
        elif is_node_away(error):
            lane, seconds = Lane.ALONE, NODE_SECONDS
        else:
            return False
        due_in = timedelta(seconds=seconds * (1 + self.random()))
        async with self.pool.acquire() as connection:
            await inbox.release(connection, token, [event.key], lane=lane, due_in=due_in)
        log.info("events.postponed", event_id=event.id, type=event.type, reason=str(error))
        return True

    async def _finish(
        self,
        connection: Connection,
        token: UUID,
        events: Sequence[ClaimedEvent],
        processed: Sequence[ProcessedEvent],
    ) -> None:
        if not processed:
            return
        finished = await inbox.finish(
            connection,
            token,
            [one.outcome for one in processed],
            types_recovered={
                event.type
                for event, one in zip(events, processed, strict=True)
                if one.outcome.state in _SUCCEEDED
            },
        )
        if finished != len(processed):
            raise LeaseLostError
        if self.on_finish is not None:
            await self.on_finish(connection, processed)

    async def _record_failure(
        self, token: UUID, event: ClaimedEvent, error: Exception
    ) -> ProcessedEvent:
        processed = outcomes.failed(event, error, random=self.random())
        async with self.pool.acquire() as connection, connection.transaction():
            await self._finish(connection, token, [event], [processed])
        self.report([event], [processed], self.now())
        return processed

    async def _pause_if_broken(
        self, token: UUID, event_type: str, left: Sequence[ClaimedEvent]
    ) -> bool:
        """Count an unexpected failure; pause the type where its handler seems to be broken."""
        async with self.pool.acquire() as connection, connection.transaction():
            failures = await inbox.count_failure(connection, event_type)
            pause = inbox_rules.breaker_pause(failures)
            if pause is None:
                return False
            await inbox.pause_type(connection, event_type, pause)
            released = [event.key for event in left if event.type == event_type]
            await inbox.release(connection, token, released, lane=Lane.SHARED, due_in=pause)
        until = self.now() + pause
        log.error("events.type_paused", type=event_type, failures=failures, until=str(until))
        return True


@dataclass(frozen=True, slots=True)
class _Progress:
    """Events processed so far, and the questions of the others."""

    processed: list[ProcessedEvent] = field(default_factory=list)
    unanswered: list[tuple[ClaimedEvent, Question]] = field(default_factory=list)

    def __add__(self, other: _Progress) -> _Progress:
        return _Progress(self.processed + other.processed, self.unanswered + other.unanswered)
