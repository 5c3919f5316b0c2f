"""Auto-recharge: what an organization agreed to, and one attempt to charge it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID


class RechargeState(StrEnum):
    """Whether an organization's auto-recharge may charge."""

    OFF = "off"
    ACTIVE = "active"
    PAUSED_REQUIRES_ACTION = "paused_requires_action"
    SUSPENDED = "suspended"


class SuspensionReason(StrEnum):
    """Why auto-recharge is suspended, which says what ends it."""

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


# Only a person ends these: neither time nor another card does, and turning it off and on does not.
ENDED_BY_A_PERSON = frozenset({
    SuspensionReason.DISPUTE,
    SuspensionReason.FRAUD_WARNING,
    SuspensionReason.CHARGE_REFUSED,
    SuspensionReason.CUSTOMER_DELETED,
    SuspensionReason.OPERATOR,
})  # fmt: skip


class AttemptState(StrEnum):
    """Where an attempt stands. All but the last three are live, and have a deadline."""

    ARMED = "armed"
    CHARGING = "charging"
    PROCESSING = "processing"
    REQUIRES_ACTION = "requires_action"
    UNKNOWN = "unknown"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


SETTLED = frozenset({AttemptState.SUCCEEDED, AttemptState.FAILED, AttemptState.CANCELED})
# Why an attempt failed that Stripe refuses to make, without a code.
REFUSED = "refused"
# Why a top-up was canceled: Stripe refuses this installation, which is not the customer's matter.
STRIPE_ERROR = "stripe_error"


class Trigger(StrEnum):
    """What armed an attempt."""

    THRESHOLD = "threshold"
    SCHEDULE = "schedule"
    TOP_UP = "top_up"


class Schedule(StrEnum):
    """How often a scheduled recharge runs."""

    WEEKLY = "weekly"
    MONTHLY = "monthly"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What an organization agreed to. Amounts are credits; months are calendar months in UTC."""

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
    """An organization's auto-recharge as it stands."""

    organization_id: UUID
    state: RechargeState
    rule: Rule
    reason: SuspensionReason | None = None
    detail: str | None = None
    suspended_until: datetime | None = None
    next_run_at: datetime | None = None
    declines_in_row: int = 0
    not_before: datetime | None = None
    declined_fingerprint: str | None = None
    consented_at: datetime | None = None
    consented_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The payment method on file that is charged."""

    id: str
    customer_id: str
    type: str
    fingerprint: str | None
    stripe_account: str = ""


@dataclass(frozen=True, slots=True)
class Spent:
    """What auto-recharge has charged in a month, with what is in flight: credits, and how often."""

    credits: Decimal
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An attempt under a worker's lease. What it charges is known from `charging` on.

    `needed` is the amount of the refused debit or hold that armed it. `create_key` numbers the
    idempotency key under which its PaymentIntent is created.
    """

    organization_id: UUID
    id: UUID
    state: AttemptState
    trigger: Trigger
    tries: int
    created_at: datetime
    create_key: int = 1
    needed: Decimal | None = None
    charged_at: datetime | None = None
    stripe_account: str = ""
    amount: Decimal | None = None
    amount_minor: int | None = None
    currency: str | None = None
    customer_id: str | None = None
    payment_method_id: str | None = None
    payment_method_type: str | None = None
    payment_intent_id: str | None = None
    link_expires_at: datetime | None = None
    reason: str | None = None
    decline_code: str | None = None
    network_advice: str | None = None

    @property
    def declined(self) -> str | None:
        """Why it was declined, written down before its PaymentIntent is canceled."""
        waited = self.reason == "authentication_required"
        return None if waited else self.reason
