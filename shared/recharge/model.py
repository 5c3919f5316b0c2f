"""Auto-recharge: the rule of an organization, and one attempt to charge it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Generic, TypeVar
from uuid import UUID


class RechargeState(StrEnum):
    """Whether an organization's auto-recharge may charge."""

    OFF = "off"
    ACTIVE = "active"
    PAUSED_REQUIRES_ACTION = "paused_requires_action"
    SUSPENDED = "suspended"


class SuspensionReason(StrEnum):
    """Why auto-recharge is suspended; the reason determines what ends it."""

    DECLINES = "declines"
    CAP = "cap"
    DISPUTE = "dispute"
    FRAUD_WARNING = "fraud_warning"
    NO_CARD = "no_card"
    AUTHENTICATION_EXPIRED = "authentication_expired"
    INQUIRY = "inquiry"
    REFUNDED = "refunded"
    CHARGE_REFUSED = "charge_refused"
    CUSTOMER_DELETED = "customer_deleted"
    OPERATOR = "operator"


# Only a person ends these: not time, another card, or turning auto-recharge off and on.
ENDED_BY_A_PERSON = frozenset({
    SuspensionReason.DISPUTE,
    SuspensionReason.FRAUD_WARNING,
    SuspensionReason.CHARGE_REFUSED,
    SuspensionReason.CUSTOMER_DELETED,
    SuspensionReason.OPERATOR,
})  # fmt: skip


# The value that the previous release stores for `no_card`.
NO_CARD_BEFORE = "no_payment_method"


class AttemptState(StrEnum):
    """The state of an attempt. All but the last three are live, and have a deadline."""

    ARMED = "armed"
    CHARGING = "charging"
    PROCESSING = "processing"
    REQUIRES_ACTION = "requires_action"
    UNKNOWN = "unknown"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


FINAL_STATES = frozenset({AttemptState.SUCCEEDED, AttemptState.FAILED, AttemptState.CANCELED})
# The reason of a failed attempt whose charge Stripe refused without a code.
REFUSED = "refused"
# The reason of a failed attempt that was captured, and whose credits the ledger refuses.
NOT_CREDITED = "not_credited"
# The reason of a top-up that was canceled because Stripe refuses this installation.
STRIPE_ERROR = "stripe_error"
# The reason of an attempt that waits for its customer.
AUTHENTICATION_REQUIRED = "authentication_required"


class Trigger(StrEnum):
    """The cause of an attempt."""

    THRESHOLD = "threshold"
    SCHEDULE = "schedule"
    TOP_UP = "top_up"


class Schedule(StrEnum):
    """How often a scheduled recharge runs."""

    WEEKLY = "weekly"
    MONTHLY = "monthly"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The consented settings. Amounts are credits; months are calendar months in UTC."""

    threshold: Decimal | None = None
    amount: Decimal | None = None
    target: Decimal | None = None
    schedule: Schedule | None = None
    schedule_day: int | None = None
    schedule_amount: Decimal | None = None
    monthly_cap: Decimal | None = None
    monthly_count_cap: int | None = None
    pause_seconds_min: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoRecharge:
    """The current settings and state of an organization's auto-recharge."""

    organization_id: UUID
    state: RechargeState
    rule: Rule
    reason: SuspensionReason | None = None
    detail: str | None = None
    suspended_until: datetime | None = None
    next_run_at: datetime | None = None
    declines_in_row: int = 0
    not_before: datetime | None = None
    consented_at: datetime | None = None
    consented_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The payment method on file that is charged."""

    id: str
    customer_id: str
    type: str
    stripe_account: str = ""


@dataclass(frozen=True, slots=True)
class Spent:
    """Credits and number of the charges of a month, including those in progress."""

    credits: Decimal
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """The inputs of a decision about an organization.

    `spendable` is the balance minus holds; a debit may go below it by `overdraft_limit`.
    `card_undescribed`: there is a payment method whose details Stripe has yet to return.
    """

    auto: AutoRecharge
    spendable: Decimal
    overdraft_limit: Decimal
    currency: str
    card: Card | None
    card_undescribed: bool
    spent: Spent


@dataclass(frozen=True, slots=True)
class TopUps:
    """Number and total cost of top-ups in one currency."""

    currency: str
    count: int
    amount_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _LiveAttempt:
    """The fields of every live attempt. `tries` counts its leases."""

    organization_id: UUID
    id: UUID
    trigger: Trigger
    tries: int
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmedAttempt(_LiveAttempt):
    """An attempt in `armed`: whether and how much to charge is not decided yet.

    `needed` is the amount of the refused debit or hold that armed it.
    """

    needed: Decimal | None = None

    @property
    def state(self) -> AttemptState:
        """Return its state."""
        return AttemptState.ARMED


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargingAttempt(_LiveAttempt):
    """An attempt in `charging` or a later live state; its amount is stored.

    `amount` is in credits, `amount_minor` in the currency's smallest unit. `create_key` numbers the
    idempotency key under which its PaymentIntent is created. `link_expires_at` is set once the
    customer has a link. `blocked_by` is the cause of the alert that it waits for.
    """

    state: AttemptState
    amount: Decimal
    amount_minor: int
    currency: str
    customer_id: str
    payment_method_id: str
    payment_method_type: str
    charged_at: datetime
    stripe_account: str = ""
    create_key: int = 1
    payment_intent_id: str | None = None
    link_expires_at: datetime | None = None
    reason: str | None = None
    decline_code: str | None = None
    network_advice: str | None = None
    blocked_by: str | None = None

    @property
    def decline_reason(self) -> str | None:
        """The reason of its decline, stored before its PaymentIntent is canceled."""
        return None if self.reason == AUTHENTICATION_REQUIRED else self.reason

    def link_has_expired(self, now: datetime) -> bool:
        """Return whether the customer's link has expired."""
        return self.link_expires_at is not None and self.link_expires_at <= now


Attempt = ArmedAttempt | ChargingAttempt
A_co = TypeVar("A_co", bound=Attempt, covariant=True)


@dataclass(frozen=True, slots=True)
class Lease(Generic[A_co]):
    """An attempt and the token under which this process may write it.

    Every write is fenced by the token: it matches no row after another process took the attempt.
    """

    attempt: A_co
    token: UUID
