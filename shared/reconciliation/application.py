"""Applies what never arrived, through the handlers of events, and says what it changes.

An object without an event is applied as the event that Stripe would have sent. The ledger keys are
made from Stripe's objects, so that the event itself changes nothing when it arrives later.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from shared.db.pool import limited_transaction
from shared.errors import EventError
from shared.events import store
from shared.events.effects import EventResult, apply_batch, interpret_batch
from shared.events.model import Applied, ApplyContext, Ignored, Unanswered
from shared.events.questions import QUESTIONS_IN_ROW_MAX, QuestionsInRowError
from shared.events.service import Lookup
from shared.ids import new_id
from shared.inbox.model import ClaimedEvent, EventKey
from shared.ledger.model import PostedTransaction, PostingStatus
from shared.payments.model import SaleTerms

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

LOCK_MILLISECONDS = 5_000
STATEMENT_MILLISECONDS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What applying an object changed, or would change.

    `is_ours`: it is something that this installation acts on. `refusal`: why it cannot be applied.
    """

    is_ours: bool
    organization_id: UUID | None = None
    credits: Decimal | None = None
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class Application:
    """Applies an event or an object in a transaction, and commits it or rolls it back.

    What it lacks is read from Stripe while no transaction is open.
    """

    pool: Pool
    lookup: Lookup
    terms: SaleTerms
    livemode: bool = False
    make_id: Callable[[], UUID] = new_id
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    async def preview(self, event: ClaimedEvent) -> Effect:
        """Return what an event would change; change nothing."""
        return await self._apply(event, None)

    async def commit(
        self, event: ClaimedEvent, record: Callable[[Connection, Effect], Awaitable[None]]
    ) -> Effect:
        """Apply an event; `record` writes its finding in the same transaction."""
        return await self._apply(event, record)

    def event(
        self,
        event_type: str,
        subject: bytes | Mapping[str, Any],
        *,
        subject_id: str,
        account: str,
        created: int | None = None,
        previous: Mapping[str, Any] | None = None,
    ) -> ClaimedEvent:
        """Return the event that Stripe would have sent of an object; it is stored nowhere."""
        now = self.now()
        data: dict[str, Any] = {
            "object": msgspec.Raw(subject) if isinstance(subject, bytes) else subject
        }
        if previous is not None:
            data["previous_attributes"] = previous
        payload = {"created": int(now.timestamp()) if created is None else created, "data": data}
        return ClaimedEvent(
            key=EventKey(account, self.livemode, f"reconciliation:{subject_id}"),
            type=event_type,
            api_version=None,
            payload=msgspec.json.encode(payload).decode(),
            attempts=1,
            received_at=now,
            request_id=None,
        )

    async def _apply(
        self,
        event: ClaimedEvent,
        record: Callable[[Connection, Effect], Awaitable[None]] | None,
    ) -> Effect:
        context = ApplyContext(self.terms, self.make_id, self.now(), {})
        for _ in range(QUESTIONS_IN_ROW_MAX + 1):
            try:
                result = await self._once(event, context, record)
            except EventError as error:
                return _effect(error)
            if not isinstance(result, Unanswered):
                return _effect(result)
            question = result.question
            if context.as_of is None:
                async with self.pool.acquire() as connection:
                    context = replace(context, as_of=await store.clock(connection))
            answers = await self.lookup.answers([question])
            context = replace(context, answers={**(context.answers or {}), **answers})
        raise QuestionsInRowError(question)

    async def _once(
        self,
        event: ClaimedEvent,
        context: ApplyContext,
        record: Callable[[Connection, Effect], Awaitable[None]] | None,
    ) -> EventResult:
        async with self.pool.acquire() as connection:
            transaction = limited_transaction(
                connection,
                lock_milliseconds=LOCK_MILLISECONDS,
                statement_milliseconds=STATEMENT_MILLISECONDS,
            )
            await transaction.start()
            commits = False
            try:
                meanings = interpret_batch([event])
                (result,) = await apply_batch(connection, [event], meanings, context)
                if record is not None and not isinstance(result, Unanswered):
                    await record(connection, _effect(result))
                    commits = True
            finally:
                await (transaction.commit() if commits else transaction.rollback())
        return result


def _effect(result: EventResult) -> Effect:
    match result:
        case EventError():
            return Effect(is_ours=True, refusal=result.detail)
        case Ignored():
            return Effect(is_ours=False)
        case PostedTransaction():
            posted = result.status is PostingStatus.POSTED
            return Effect(
                is_ours=True,
                organization_id=result.organization_id,
                credits=result.amount if posted else None,
            )
        case Applied(organization_id):
            return Effect(is_ours=True, organization_id=organization_id)
        case _:
            return Effect(is_ours=True)
