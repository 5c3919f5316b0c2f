"""Adds up what the windows of a preview would have done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

from shared.events.model import ProcessedEvent
from shared.ids import transaction_public_id
from shared.inbox.model import EventState
from shared.ledger.model import PostingStatus
from shared.replay import rules
from shared.replay.model import (
    AutoRechargeChange,
    BatchState,
    Effect,
    Failure,
    LedgerRow,
    MessageCount,
    OrganizationDiff,
    PostedRow,
    RechargeChange,
    ReplayReport,
)

if TYPE_CHECKING:
    import asyncpg


@dataclass(frozen=True, slots=True)
class WindowEffects:
    """What the events of one window did, before it was rolled back."""

    events: int
    processed: Sequence[ProcessedEvent]
    untried: Sequence[Failure]
    before: Mapping[UUID, asyncpg.Record]
    after: Mapping[UUID, asyncpg.Record]
    rows: Sequence[PostedRow]
    messages: Sequence[asyncpg.Record]


@dataclass(slots=True)
class _Organization:
    slug: str
    before: Decimal
    after: Decimal
    auto_recharge: tuple[str, str]
    attempts: list[RechargeChange]
    rows: list[LedgerRow] = field(default_factory=list)
    messages: dict[str, int] = field(default_factory=dict)

    @property
    def is_changed(self) -> bool:
        return bool(
            self.rows
            or self.messages
            or self.attempts
            or self.auto_recharge[0] != self.auto_recharge[1]
        )

    def diff(self, organization_id: UUID) -> OrganizationDiff:
        found = OrganizationDiff(
            organizationId=str(organization_id),
            slug=self.slug,
            before=self.before,
            after=self.after,
            transactions=[row["id"] for row in self.rows],
            rows=self.rows,
            messages=[MessageCount(type=t, messages=n) for t, n in self.messages.items()],
            rechargeAttempts=self.attempts,
        )
        was, becomes = self.auto_recharge
        if was != becomes:
            found["autoRecharge"] = AutoRechargeChange(before=was, after=becomes)
        return found


@dataclass(slots=True)
class Accumulated:
    """The sum of the windows so far; a posting that two windows made counts once, by its key."""

    counts: dict[Effect, int] = field(default_factory=lambda: dict.fromkeys(Effect, 0))
    failures: list[Failure] = field(default_factory=list)
    organizations: dict[UUID, _Organization] = field(default_factory=dict)
    keys: set[int] = field(default_factory=set)

    def add(self, window: WindowEffects) -> None:
        """Add a window."""
        # Rows that an earlier window made as well: this one was rolled back from there.
        repeated: set[UUID] = set()
        own: dict[UUID, Decimal] = {}
        for row in window.rows:
            own[row.organization_id] = own.get(row.organization_id, Decimal(0)) + row.amount
        for organization_id, now in window.after.items():
            balance: Decimal = now["balance"] - own.get(organization_id, Decimal(0))
            self._add_organization(
                organization_id, window.before.get(organization_id), now, balance
            )
        for row in window.rows:
            key = hash((row.organization_id, row.idempotency_key))
            if key in self.keys:
                repeated.add(row.id)
                continue
            self.keys.add(key)
            changed = self.organizations[row.organization_id]
            changed.after += row.amount
            if len(changed.rows) < rules.TRANSACTIONS_MAX:
                changed.rows.append(
                    LedgerRow(id=transaction_public_id(row.id), type=row.type, amount=row.amount)
                )
        for sent in window.messages:
            messages = self.organizations[sent["organization_id"]].messages
            messages[sent["type"]] = messages.get(sent["type"], 0) + sent["messages"]
        self._count(window, repeated)

    def report(self) -> ReplayReport:
        """Return the sum as a report."""
        changed = {k: v for k, v in sorted(self.organizations.items()) if v.is_changed}
        first = list(changed.items())[: rules.ORGANIZATIONS_MAX]
        return ReplayReport(
            batchId=None,
            state=BatchState.FINISHED,
            dryRun=True,
            selected=sum(self.counts.values()),
            applied=self.counts[Effect.APPLIED],
            noop=self.counts[Effect.NOOP],
            failed=self.counts[Effect.FAILED],
            failures=self.failures,
            organizations=len(changed),
            diff=[each.diff(organization_id) for organization_id, each in first],
        )

    def _add_organization(
        self,
        organization_id: UUID,
        before: asyncpg.Record | None,
        after: asyncpg.Record,
        balance: Decimal,
    ) -> None:
        found = self.organizations.setdefault(
            organization_id,
            _Organization(
                after["slug"],
                balance,
                balance,
                auto_recharge=(_rule(before), _rule(before)),
                attempts=[],
            ),
        )
        found.auto_recharge = (found.auto_recharge[0], _rule(after))
        change = _attempt_change(before, after)
        if change is not None and change not in found.attempts:
            found.attempts.append(change)

    def _count(self, window: WindowEffects, repeated: set[UUID]) -> None:
        effects = rules.effects(window.processed)
        for event in window.processed:
            posting = event.result
            if (
                posting is not None
                and posting.status is PostingStatus.POSTED
                and posting.id in repeated
                and event.outcome.state is EventState.APPLIED
            ):
                effects[event.outcome.key.id] = Effect.NOOP
        for effect in effects.values():
            self.counts[effect] += 1
        self.counts[Effect.FAILED] += len(window.untried)
        room = max(rules.FAILURES_MAX - len(self.failures), 0)
        self.failures += [*rules.failures(window.processed), *window.untried][:room]


def _rule(row: asyncpg.Record | None) -> str:
    if row is None or row["auto_recharge"] is None:
        return "off"
    reason = row["auto_recharge_reason"]
    return f"{row['auto_recharge']}: {reason}" if reason else str(row["auto_recharge"])


def _attempt_change(before: asyncpg.Record | None, after: asyncpg.Record) -> RechargeChange | None:
    was = None if before is None else before["attempt_state"]
    becomes = after["attempt_state"]
    same = before is not None and before["attempt_id"] == after["attempt_id"]
    if same and was == becomes:
        return None
    return RechargeChange(before=was, after=becomes, amount=after["attempt_amount"])
