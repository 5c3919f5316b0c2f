"""Replaying events by a person's decision: through the same handlers, and told as a difference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypedDict
from uuid import UUID

from shared.access import service as audit
from shared.config import Settings
from shared.events.model import ProcessedEvent
from shared.events.service import Applier
from shared.ids import transaction_public_id
from shared.inbox import store as inbox
from shared.inbox.model import EventState
from shared.inbox.retention import store as retention
from shared.ledger.model import PostedTransaction, PostingStatus

if TYPE_CHECKING:
    from shared.db.pool import Pool

BATCH_ROWS_MAX = 200
LEASE = timedelta(seconds=60)
NOT_TRIED = "not tried: its type is paused, or it is of another mode or account"


class OrganizationDiff(TypedDict):
    """What a replay did to one organization: its balance before and after, and the new rows."""

    organizationId: str
    before: Decimal
    after: Decimal
    transactions: list[str]


class ReplayReport(TypedDict):
    """What a replay did. `noop`: applied, and the ledger had it already or had nothing to do."""

    batchId: str
    selected: int
    applied: int
    noop: int
    failed: int
    failures: list[dict[str, Any]]
    diff: list[OrganizationDiff]


@dataclass(frozen=True, slots=True)
class Mode:
    """Which events are ours. No replay applies another's: test money must not become credits."""

    livemode: bool
    accounts: frozenset[str]

    @classmethod
    def of(cls, settings: Settings) -> Mode:
        """Return the mode that an installation's settings make."""
        return cls(settings.livemode, settings.stripe_accounts)


@dataclass(frozen=True, slots=True)
class Replayer:
    """Replays events whatever their state; what was applied before is a no-op by its key."""

    pool: Pool
    applier: Applier
    make_id: Callable[[], UUID]
    mode: Mode = Mode(livemode=False, accounts=frozenset())

    async def replay(self, ids: Sequence[str], *, actor: str, reason: str | None) -> ReplayReport:
        """Apply the named events now, their attempts counted anew, and report the difference."""
        batch_id = self.make_id()
        wanted = list(dict.fromkeys(ids))
        processed: list[ProcessedEvent] = []
        for start in range(0, len(wanted), BATCH_ROWS_MAX):
            processed += await self._replay_batch(
                batch_id, wanted[start : start + BATCH_ROWS_MAX], actor=actor, reason=reason
            )
        async with self.pool.acquire() as connection:
            deleted = await retention.deleted_payloads(connection, wanted)
        return summarize(batch_id, wanted, processed, deleted)

    async def _replay_batch(
        self, batch_id: UUID, ids: Sequence[str], *, actor: str, reason: str | None
    ) -> list[ProcessedEvent]:
        async with self.pool.acquire() as connection, connection.transaction():
            events = await inbox.claim_for_replay(
                connection,
                ids,
                token=batch_id,
                lease=LEASE,
                livemode=self.mode.livemode,
                accounts=self.mode.accounts,
            )
            await audit.record(
                connection,
                actor=actor,
                action="events.replay",
                subject=str(batch_id),
                reason=reason,
                details={"events": [event.id for event in events]},
            )
        return await self.applier.apply(batch_id, events, LEASE) if events else []


def summarize(
    batch_id: UUID,
    wanted: Sequence[str],
    processed: Sequence[ProcessedEvent],
    deleted: Mapping[str, datetime],
) -> ReplayReport:
    """Count what the processed came to, and add up what they posted for each organization.

    An event that was not tried counts as failed: its payload was deleted, its type is paused, or
    it is not ours.
    """
    # Two events of one payment may carry the same posting: it changed the ledger once.
    posted = {
        event.result.id: event.result
        for event in processed
        if event.result is not None and event.result.status is PostingStatus.POSTED
    }
    failures = [
        {"id": p.outcome.key.id, "state": p.outcome.state, "error": p.outcome.reason}
        for p in processed
        if p.outcome.state in (EventState.DEAD, EventState.RETRYING)
    ]
    tried = {event.outcome.key.id for event in processed}
    failures += [
        {"id": event_id, "state": None, "error": _not_tried(deleted.get(event_id))}
        for event_id in wanted
        if event_id not in tried
    ]
    return ReplayReport(
        batchId=str(batch_id),
        selected=len(wanted),
        applied=len(posted),
        noop=len(wanted) - len(posted) - len(failures),
        failed=len(failures),
        failures=failures,
        diff=_diff(list(posted.values())),
    )


def _not_tried(forgotten_at: datetime | None) -> str:
    if forgotten_at is None:
        return NOT_TRIED
    return (
        f"not tried: its payload was forgotten on {forgotten_at:%Y-%m-%d} (PREPAID_EVENT_RETENTION)"
    )


def _diff(posted: Sequence[PostedTransaction]) -> list[OrganizationDiff]:
    rows = sorted(posted, key=lambda result: (result.organization_id, result.seq))
    diffs: dict[UUID, OrganizationDiff] = {}
    for row in rows:
        diff = diffs.setdefault(
            row.organization_id,
            OrganizationDiff(
                organizationId=str(row.organization_id),
                before=row.balance_after - row.amount,
                after=row.balance_after,
                transactions=[],
            ),
        )
        diff["after"] = row.balance_after
        diff["transactions"].append(transaction_public_id(row.id))
    return list(diffs.values())
