"""What a Stripe event means to Prepaid, and what applying it came to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.inbox.model import EventOutcome
from shared.ledger.model import PostedTransaction
from shared.payments.invoice_objects import Invoice
from shared.payments.lookup import Answers, Question
from shared.payments.model import PaymentCaptured, SaleTerms
from shared.payments.objects import MethodDetails


@dataclass(frozen=True, slots=True)
class Ignored:
    """The event changes nothing here, for the reason given.

    `waits_for` is the Stripe id, or the name of an organization, that somebody must have before it
    can: then it is applied again.
    """

    reason: str
    waits_for: str | None = None


@dataclass(frozen=True, slots=True)
class CheckoutClosed:
    """A Checkout Session ended without money: `failed`, `expired`, or `free` (nothing to pay)."""

    checkout_session_id: str
    state: str


@dataclass(frozen=True, slots=True)
class CheckoutPending:
    """A Checkout Session is completed, and its payment takes days: a bank decides."""

    checkout_session_id: str


@dataclass(frozen=True, slots=True)
class ReversalChanged:
    """What refunds and disputes took back of a payment may have changed; Stripe knows to what."""

    payment_intent_id: str
    of_dispute: bool


@dataclass(frozen=True, slots=True)
class FraudWarningReceived:
    """A card's issuer believes that a payment is fraud; nothing is taken back yet."""

    warning_id: str
    payment_intent_id: str | None
    charge_id: str | None
    fraud_type: str | None


@dataclass(frozen=True, slots=True)
class PaymentIntentUpdated:
    """A payment of auto-recharge has moved; whoever charges asks Stripe where to."""

    payment_intent_id: str
    attempt_id: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentMethodUpdated:
    """A payment method is on file. No `details`: the event says that it is, and not what it is."""

    payment_method_id: str
    type: str
    customer_id: str | None
    named_organization: str | None
    as_of: datetime
    details: MethodDetails | None = None
    mandate_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentMethodDetached:
    """A payment method is off file for good: Stripe attaches none twice."""

    payment_method_id: str
    type: str
    customer_id: str | None
    named_organization: str | None
    as_of: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPaymentMethod:
    """A payment method as it is stored; what was only seen has the epoch for its moment."""

    id: str
    customer_id: str
    type: str
    details: MethodDetails
    as_of: datetime
    detached: bool = False

    @property
    def described(self) -> bool:
        """Whether anything has described it: otherwise no more than its id is certain."""
        return self.as_of.timestamp() > 0


@dataclass(frozen=True, slots=True)
class DefaultPaymentMethodChanged:
    """Which payment method a customer's invoices are paid with; None: no particular one."""

    customer_id: str
    payment_method_id: str | None
    as_of: datetime


@dataclass(frozen=True, slots=True)
class MandateUpdated:
    """Whether a bank still lets us debit."""

    mandate_id: str
    payment_method_id: str
    active: bool


@dataclass(frozen=True, slots=True)
class CustomerLinked:
    """A Stripe customer belongs to an organization, as the page that set it up says."""

    customer_id: str
    named_organization: str


@dataclass(frozen=True, slots=True)
class CustomerDeleted:
    """A Stripe customer is gone, and with it all that was on file."""

    customer_id: str
    as_of: datetime


# What works on a whole batch at once, and what has a transaction of its own.
BatchMeaning = Ignored | PaymentCaptured | CheckoutClosed | CheckoutPending | CustomerLinked


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionUpdated:
    """A subscription as Stripe had it at a moment."""

    subscription_id: str
    customer_id: str | None
    named_organization: str | None
    status: str
    plan: str | None
    started_at: datetime | None
    ends_at: datetime | None
    current_period_end: datetime | None
    as_of: datetime


@dataclass(frozen=True, slots=True)
class InvoicePaid:
    """An invoice is paid, or has nothing to pay. What it brings is said by `payments.invoices`."""

    invoice: Invoice
    paid_at: datetime


@dataclass(frozen=True, slots=True)
class UndescribedPaymentMethod:
    """A payment method that is on file, and of which nothing is known but its id."""

    organization_id: UUID
    payment_method_id: str
    account: str
    seen_at: datetime


PaymentMethodMeaning = (
    PaymentMethodUpdated
    | PaymentMethodDetached
    | DefaultPaymentMethodChanged
    | MandateUpdated
    | CustomerDeleted
)
SubscriptionMeaning = SubscriptionUpdated | InvoicePaid
SeparateMeaning = (
    ReversalChanged
    | FraudWarningReceived
    | PaymentIntentUpdated
    | PaymentMethodMeaning
    | SubscriptionMeaning
)
Meaning = BatchMeaning | SeparateMeaning


@dataclass(frozen=True, slots=True)
class Applied:
    """The event is applied, and had nothing to post."""

    organization_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Unanswered:
    """The event cannot be applied before Stripe has answered this question."""

    question: Question


@dataclass(frozen=True, slots=True)
class ApplyContext:
    """Context for applying effects: terms of sale, id factory, clock and Stripe's answers.

    The answers were asked for not before `as_of`, which is PostgreSQL's clock. `answers` is None
    where there is nobody to ask: a payment is then decided by what its event says.
    """

    terms: SaleTerms
    make_id: Callable[[], UUID]
    now: datetime
    answers: Answers | None = None
    as_of: datetime | None = None


@dataclass(frozen=True, slots=True)
class ProcessedEvent:
    """A processed event: its outcome in the inbox, and what it posted, if anything."""

    outcome: EventOutcome
    result: PostedTransaction | None = None
