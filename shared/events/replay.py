"""Replaying events by a person's decision: through the same handlers, and told as a difference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypedDict
from uuid import UUID

from shared.access import service as audit
from shared.events.model import Outcome
from shared.events.service import Applier
from shared.ids import transaction_public_id
from shared.inbox import store as inbox
from shared.inbox.model import EventState
from shared.ledger.model import PostingResult, PostingStatus

if TYPE_CHECKING:
    from shared.db.pool import Pool

BATCH_ROWS_MAX = 200
LEASE = timedelta(seconds=60)


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
class Replayer:
    """Replays events whatever their state; what was applied before is a no-op by its key."""

    pool: Pool
    applier: Applier
    make_id: Callable[[], UUID]

    async def replay(self, ids: Sequence[str], *, actor: str, reason: str | None) -> ReplayReport:
        """Apply the named events now, their attempts counted anew, and report the difference."""
        batch_id = self.make_id()
        outcomes: list[Outcome] = []
        for start in range(0, len(ids), BATCH_ROWS_MAX):
            outcomes += await self._replay_batch(
                batch_id, ids[start : start + BATCH_ROWS_MAX], actor=actor, reason=reason
            )
        return summarize(batch_id, outcomes)

    async def _replay_batch(
        self, batch_id: UUID, ids: Sequence[str], *, actor: str, reason: str | None
    ) -> list[Outcome]:
        async with self.pool.acquire() as connection, connection.transaction():
            events = await inbox.claim_for_replay(connection, ids, token=batch_id, lease=LEASE)
            await audit.record(
                connection,
                actor=actor,
                action="events.replay",
                subject=str(batch_id),
                reason=reason,
                details={"events": [event.id for event in events]},
            )
        return await self.applier.apply(batch_id, events) if events else []


def summarize(batch_id: UUID, outcomes: Sequence[Outcome]) -> ReplayReport:
    """Count what the outcomes came to, and add up what they posted for each organization."""
    posted = [
        outcome.result
        for outcome in outcomes
        if outcome.result is not None and outcome.result.status is PostingStatus.POSTED
    ]
    failed = [
        outcome.settlement
        for outcome in outcomes
        if outcome.settlement.state in (EventState.DEAD, EventState.RETRYING)
    ]
    return ReplayReport(
        batchId=str(batch_id),
        selected=len(outcomes),
        applied=len(posted),
        noop=len(outcomes) - len(posted) - len(failed),
        failed=len(failed),
        failures=[{"id": s.key.id, "state": s.state, "error": s.reason} for s in failed],
        diff=_diff(posted),
    )


def _diff(posted: Sequence[PostingResult]) -> list[OrganizationDiff]:
    rows = sorted(posted, key=lambda result: (result.organization_id, result.seq or 0))
    diffs: dict[UUID, OrganizationDiff] = {}
    for row in rows:
        assert row.id and row.amount is not None and row.balance_after is not None  # noqa: S101, PT018 - posted
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
