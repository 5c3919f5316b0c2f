"""A run of reconciliation, its findings, and the objects that it compares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

import msgspec

from shared.payments.objects import (
    Charge,
    Dispute,
    Reference,
    Seconds,
    StripeId,
    StripeObject,
)


class FindingKind(StrEnum):
    """How Stripe and this installation differ."""

    MISSING_EVENT = "missing_event"
    """Stripe has an event that never arrived."""

    CHARGED_NOT_CREDITED = "charged_not_credited"
    """A payment or invoice is paid, and its credits are not on the ledger."""

    CREDITED_NOT_CHARGED = "credited_not_charged"
    """Credits are on the ledger, and Stripe has no such payment, or a smaller one."""

    REVERSED_NOT_RECORDED = "reversed_not_recorded"
    """A refund or dispute is not on the ledger, or its status is not recorded."""

    ORPHANED_PAYMENT_INTENT = "orphaned_payment_intent"
    """A PaymentIntent of a recharge attempt can still charge, and the attempt does not have it."""

    CUSTOMER_DELETED = "customer_deleted"
    """An organization has a Stripe customer that does not exist any more."""

    PAYMENT_METHOD_GONE = "payment_method_gone"
    """A payment method is on file that is not attached to a customer any more."""


class Outcome(StrEnum):
    """The outcome of a finding."""

    FOUND = "found"
    """Reported only."""

    REPAIRABLE = "repairable"
    """A preview has applied the repair and rolled it back."""

    REPAIRED = "repaired"

    REFUSED = "refused"
    """Cannot be repaired by itself: `detail` says why."""


class RunMode(StrEnum):
    """What a run does with its findings."""

    REPORT = "report"
    PREVIEW = "preview"
    """Applies each repair, rolls it back and records what it would do."""

    EVENTS = "events"
    """Inserts and applies missing events; reports everything else."""

    REPAIR = "repair"


class RunState(StrEnum):
    """States of a run. One that died stays `running` until it is continued or replaced."""

    REQUESTED = "requested"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """It died, and another run began in its place."""


class Problem(msgspec.Struct, frozen=True):
    """A list that could not be compared. `permission` is what the Stripe key lacks."""

    list: str
    detail: str
    permission: str | None = None
    account: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What a run is to compare, and for whom."""

    mode: RunMode
    since: datetime
    until: datetime | None = None
    whole: bool = True
    requested_by: str
    reason: str | None = None

    def by(self, actor: str) -> RunRequest:
        """Return the request of somebody."""
        return replace(self, requested_by=actor)


@dataclass(slots=True, kw_only=True)
class Run:
    """A run as it is stored. `progress` has for each list the place that the run has reached."""

    id: UUID
    mode: RunMode
    state: RunState
    requested_by: str
    reason: str | None
    scheduled: bool
    due_at: datetime
    since: datetime
    until: datetime | None
    whole: bool
    progress: dict[str, Progress]
    checked: int
    problems: list[Problem]
    detail: str | None
    requested_at: datetime
    started_at: datetime | None
    saved_at: datetime | None
    finished_at: datetime | None


class Progress(msgspec.Struct, omit_defaults=True):
    """The progress of one list: the last object compared, how many, and whether it is done."""

    after: str | None = None
    checked: int = 0
    done: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """A run with the number of its findings by kind and outcome."""

    run: Run
    findings: Mapping[FindingKind, Mapping[Outcome, int]]

    @property
    def drift(self) -> int:
        """How many findings are not repaired."""
        return sum(
            count
            for outcomes in self.findings.values()
            for outcome, count in outcomes.items()
            if outcome is not Outcome.REPAIRED
        )

    @property
    def repaired(self) -> int:
        """How many findings are repaired."""
        return self.total(Outcome.REPAIRED)

    def total(self, outcome: Outcome) -> int:
        """Return the number of findings with an outcome, whatever their kind."""
        return sum(outcomes.get(outcome, 0) for outcomes in self.findings.values())

    def count(self, kind: FindingKind) -> int:
        """Return the number of findings of a kind, whatever their outcome."""
        return sum(self.findings.get(kind, {}).values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One difference. `credits` is what a repair posts or would post: positive adds."""

    kind: FindingKind
    object_id: str
    outcome: Outcome
    detail: str
    account: str = ""
    organization_id: UUID | None = None
    amount_minor: int | None = None
    currency: str | None = None
    credits: Decimal | None = None
    found_at: datetime | None = None


class ListedPayment(StripeObject, frozen=True):
    """A PaymentIntent of Stripe's list, whatever became of it."""

    OBJECTS = frozenset({"payment_intent"})

    status: str
    amount: int = 0
    amount_received: int = 0
    currency: str = ""
    created: Seconds = 0
    metadata: dict[str, object] | None = None


class ListedRefund(StripeObject, frozen=True):
    """A refund of Stripe's list, with its charge."""

    OBJECTS = frozenset({"refund"})

    payment_intent: Reference = None
    charge: StripeId | Charge | None = None


class ListedDispute(Dispute, frozen=True):
    """A dispute of Stripe's list, with its charge."""

    charge: StripeId | Charge | None = None  # type: ignore[assignment]


class ListedInvoice(StripeObject, frozen=True):
    """A paid invoice of Stripe's list."""

    OBJECTS = frozenset({"invoice"})

    amount_paid: int = 0
    currency: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedPayment:
    """A payment as it is recorded here. Not bound: `organization_id` is None.

    `posted`: its ledger row exists. `attempt_state` and `attempt_payment_intent_id` are those of
    the recharge attempt that its metadata name; `attempt_organization_id`: that organization
    exists.
    """

    payment_intent_id: str
    organization_id: UUID | None = None
    amount_minor: int = 0
    currency: str = ""
    credits: Decimal = Decimal(0)
    reversed: Decimal = Decimal(0)
    invoice_id: str | None = None
    posted: bool = False
    account: str = ""
    attempt_organization_id: UUID | None = None
    attempt_state: str | None = None
    attempt_payment_intent_id: str | None = None

    @property
    def credited(self) -> bool:
        """Whether its credits are on the ledger, by its own row or by those of its invoice."""
        return self.organization_id is not None and (self.posted or self.invoice_id is not None)


@dataclass(frozen=True, slots=True)
class StoredCustomer:
    """An organization's Stripe customer."""

    organization_id: UUID
    customer_id: str
    account: str


@dataclass(frozen=True, slots=True)
class StoredMethod:
    """A payment method; `attached`: it is on file."""

    payment_method_id: str
    organization_id: UUID
    customer_id: str
    type: str
    account: str
    attached: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference by comparison alone. `repairable`: the handlers decide whether it is ours."""

    kind: FindingKind
    detail: str
    repairable: bool = True
