"""What is replayed, how, and what a replay or its preview did."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import NotRequired, TypedDict
from uuid import UUID

import msgspec

from shared.config import Settings
from shared.inbox.admin.model import EventFilter, Place
from shared.outbound.model import MessageFilter

Selection = Sequence[str] | EventFilter
BatchFilter = EventFilter | MessageFilter


class Kind(enum.StrEnum):
    """What a batch replays."""

    EVENTS = "events"
    MESSAGES = "messages"


class BatchState(enum.StrEnum):
    """States of a replay. A running one that is not saved any more has lost its process."""

    RUNNING = "running"
    STOPPED = "stopped"
    FINISHED = "finished"


class Effect(enum.StrEnum):
    """What replaying one event did. `noop`: the ledger had it already, or had nothing to do."""

    APPLIED = "applied"
    NOOP = "noop"
    FAILED = "failed"


class ReplayOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to replay: events a second, when to stop, and whether to read the objects again.

    `stop_after` failures a replay stops, and can be resumed. `refetch`: apply Stripe's object of
    today, and not the one that the event was delivered with.
    """

    rate: float | None = None
    stop_after: int | None = None
    refetch: bool = False


DEFAULT_OPTIONS = ReplayOptions()


class LedgerRow(TypedDict):
    """A row of the ledger. The id of a row in a preview names nothing afterwards."""

    id: str
    type: str
    amount: Decimal


class MessageCount(TypedDict):
    """How many outbound messages of a type would be sent."""

    type: str
    messages: int


class RechargeChange(TypedDict):
    """A live recharge attempt before and after; None: there was none, or it ended."""

    before: str | None
    after: str | None
    amount: Decimal | None


class AutoRechargeChange(TypedDict):
    """State and reason of an organization's auto-recharge before and after."""

    before: str
    after: str


class OrganizationDiff(TypedDict):
    """What a replay did to one organization: its balance before and after, and the new rows.

    `transactions` are their ids, at most TRANSACTIONS_MAX of them, and `rows` what they are. Only a
    preview has the last three.
    """

    organizationId: str
    slug: str
    before: Decimal
    after: Decimal
    transactions: list[str]
    rows: list[LedgerRow]
    messages: NotRequired[list[MessageCount]]
    rechargeAttempts: NotRequired[list[RechargeChange]]
    autoRecharge: NotRequired[AutoRechargeChange]


class Failure(TypedDict):
    """An event that failed, or was not tried (state None)."""

    id: str
    state: str | None
    error: str | None


class ReplayReport(TypedDict):
    """What a replay did, or in a dry run would do. `noop`: applied, and the ledger had it already.

    `failures` and `diff` list the first ones; `organizations` counts all that changed.
    """

    batchId: str | None
    state: str
    dryRun: bool
    selected: int
    applied: int
    noop: int
    failed: int
    failures: list[Failure]
    organizations: int
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


TEST_MODE = Mode(livemode=False, accounts=frozenset())


@dataclass(frozen=True, slots=True)
class Batch:
    """A replay as it is stored, with its progress. `holder` is the process that runs it."""

    id: UUID
    kind: Kind
    holder: UUID
    actor: str
    reason: str | None
    state: BatchState
    ids: tuple[str, ...] | None
    filter: BatchFilter | None
    options: ReplayOptions
    until: datetime
    after: Place | None
    next_place: int
    in_flight: tuple[str, ...]
    selected: int
    applied: int
    noop: int
    failed: int
    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class OrganizationChange:
    """What a transaction of a replay did to one organization."""

    organization_id: UUID
    before: Decimal
    after: Decimal
    transaction_ids: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class PostedRow:
    """A row that a transaction has added to the ledger."""

    organization_id: UUID
    seq: int
    id: UUID
    type: str
    amount: Decimal
    balance_after: Decimal
    idempotency_key: str
