"""Previews a replay: the real handlers, in transactions that are rolled back.

Events of one window share a transaction, so that each sees what the ones before it did. A window
ends after WINDOW_EVENTS_MAX events, or WINDOW_SECONDS_MAX: no account is locked for longer. While
Stripe is asked, no transaction is open: the window is rolled back and applied again with the
answers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from shared.db.pool import limited_transaction
from shared.events.model import ProcessedEvent
from shared.events.service import ANSWER_LEASES_MAX, Applier
from shared.inbox import store as inbox
from shared.inbox.admin import store as admin
from shared.inbox.admin.model import EventFilter, Place
from shared.inbox.retention import store as retention
from shared.payments.lookup import Facts, Question
from shared.replay import rules, store
from shared.replay.accumulated import Accumulated, WindowEffects
from shared.replay.model import Mode, ReplayReport, Selection
from shared.replay.refetch import Refetched, Refetcher
from shared.replay.rehearsal import CollectedLookup, OneConnection, no_report

if TYPE_CHECKING:
    from shared.db.pool import Connection, Connections

WINDOW_EVENTS_MAX = 1_000
WINDOW_SECONDS_MAX = 2.0
EVENTS_MAX = 100_000
LOCK_MILLISECONDS = 500
STATEMENT_MILLISECONDS = 10_000
# It limits how long a chunk waits for locks, besides.
LEASE = timedelta(seconds=4)


@dataclass(frozen=True, slots=True)
class Preview:
    """Applies events in rolled-back transactions, and adds up what they would have done."""

    pool: Connections
    applier: Applier
    mode: Mode
    refetcher: Refetcher | None
    clock: Callable[[], float]
    token: UUID
    answers: dict[Question, Facts | Exception] = field(default_factory=dict)

    async def run(self, selection: Selection) -> ReplayReport:
        """Return what a replay of at most EVENTS_MAX events would do."""
        total = Accumulated()
        async for ids in self._pages(selection):
            refetched = await self._refetch(ids)
            left = list(ids)
            while left:
                applied = await self._window(left, refetched, total)
                left = left[applied:]
        return total.report()

    async def _pages(self, selection: Selection) -> AsyncIterator[Sequence[str]]:
        if not isinstance(selection, EventFilter):
            for start in range(0, len(selection), WINDOW_EVENTS_MAX):
                yield selection[start : start + WINDOW_EVENTS_MAX]
            return
        until, after = datetime.now(UTC), None
        for _ in range(EVENTS_MAX // WINDOW_EVENTS_MAX):
            places = await self._page(selection, until, after)
            if not places:
                return
            after = places[-1]
            yield list(dict.fromkeys(place.id for place in places))

    async def _page(
        self, selection: EventFilter, until: datetime, after: Place | None
    ) -> list[Place]:
        async with self.pool.acquire() as connection:
            return await admin.select_for_replay(
                connection, selection, until=until, after=after, limit=WINDOW_EVENTS_MAX
            )

    async def _window(
        self, ids: Sequence[str], refetched: Refetched | None, total: Accumulated
    ) -> int:
        """Preview the first of these events in one transaction; return how many that were."""
        for _ in range(ANSWER_LEASES_MAX):
            lookup = CollectedLookup(self.answers)
            effects = await self._rehearse(ids, lookup, refetched)
            if not lookup.missing or self.applier.lookup is None:
                break
            self.answers.update(await self.applier.lookup.answers(lookup.missing))
        total.add(effects)
        return effects.events

    async def _refetch(self, ids: Sequence[str]) -> Refetched | None:
        if self.refetcher is None:
            return None
        async with self.pool.acquire() as connection:
            rows = await admin.stored(
                connection, ids, livemode=self.mode.livemode, accounts=self.mode.accounts
            )
        return await self.refetcher.payloads(rows)

    async def _rehearse(
        self, ids: Sequence[str], lookup: CollectedLookup, refetched: Refetched | None
    ) -> WindowEffects:
        async with self.pool.acquire() as connection:
            transaction = limited_transaction(
                connection,
                lock_milliseconds=LOCK_MILLISECONDS,
                statement_milliseconds=STATEMENT_MILLISECONDS,
            )
            await transaction.start()
            try:
                tried, processed = await self._apply(connection, ids, lookup, refetched)
                effects = await _effects(connection, ids[:tried], processed, refetched)
            finally:
                await transaction.rollback()
            return await _without_others(connection, effects)

    async def _apply(
        self,
        connection: Connection,
        ids: Sequence[str],
        lookup: CollectedLookup,
        refetched: Refetched | None,
    ) -> tuple[int, list[ProcessedEvent]]:
        """Apply chunk after chunk until the time of a window is over."""
        applier = replace(
            self.applier,
            pool=OneConnection(connection),
            lookup=None if self.applier.lookup is None else lookup,
            on_finish=None,
            report=no_report,
        )
        objects = {} if refetched is None else refetched.payloads
        ends_at = self.clock() + WINDOW_SECONDS_MAX
        processed: list[ProcessedEvent] = []
        tried = 0
        while tried < len(ids) and (tried == 0 or self.clock() < ends_at):
            chunk = ids[tried : tried + rules.BATCH_ROWS_MAX]
            events = await inbox.claim_for_replay(
                connection,
                [name for name in chunk if refetched is None or name in objects],
                token=self.token,
                lease=LEASE,
                livemode=self.mode.livemode,
                accounts=self.mode.accounts,
                without_payload=refetched is not None,
            )
            events = [e.with_payload(objects[e.id]) if e.id in objects else e for e in events]
            processed += await applier.apply(self.token, events, LEASE) if events else []
            tried += len(chunk)
        return tried, processed


async def _effects(
    connection: Connection,
    ids: Sequence[str],
    processed: Sequence[ProcessedEvent],
    refetched: Refetched | None,
) -> WindowEffects:
    """Read what the open transaction did to the organizations of its events."""
    organizations = rules.touched(processed)
    tried = {p.outcome.key.id for p in processed}
    untried = [name for name in ids if name not in tried]
    deleted = await retention.deleted_payloads(connection, untried) if untried else {}
    errors = {} if refetched is None else refetched.errors
    return WindowEffects(
        events=len(ids),
        processed=processed,
        untried=[
            rules.failure(n, None, errors.get(n) or rules.not_tried(deleted.get(n)))
            for n in untried
        ],
        before={},
        after=await store.organizations_now(connection, organizations),
        rows=await store.rows_of_transaction(connection, organizations),
        messages=await store.new_messages(connection, organizations),
    )


async def _without_others(connection: Connection, effects: WindowEffects) -> WindowEffects:
    """Leave out what is in the ledger after the rollback: others have posted it."""
    others = await store.existing(connection, effects.rows) if effects.rows else set()
    return replace(
        effects,
        before=await store.organizations_now(connection, list(effects.after)),
        rows=[row for row in effects.rows if row.id not in others],
    )
