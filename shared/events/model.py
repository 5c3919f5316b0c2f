"""The meaning of a Stripe event to Prepaid, and the result of applying it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
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
    """The event changes nothing, for this reason.

    `waits_for` is a Stripe id or the name of an organization. When it becomes known, the event is
    applied again.
    """

    reason: str
    waits_for: str | None = None


@dataclass(frozen=True, slots=True)
class CheckoutClosed:
    """A Checkout Session ended without a payment: `failed`, `expired` or `free` (amount 0)."""

    checkout_session_id: str
    state: str


@dataclass(frozen=True, slots=True)
class CheckoutPending:
    """A completed Checkout Session whose bank payment is still pending, possibly for days."""

    checkout_session_id: str


@dataclass(frozen=True, slots=True)
class ReversalChanged:
    """Refunds or disputes of a payment changed; the current amounts are read from Stripe."""

    payment_intent_id: str
    of_dispute: bool


@dataclass(frozen=True, slots=True)
class FraudWarningReceived:
    """A card issuer suspects that a payment is fraudulent; nothing is taken back yet."""

    warning_id: str
    payment_intent_id: str | None
    charge_id: str | None
    fraud_type: str | None


@dataclass(frozen=True, slots=True)
class PaymentIntentUpdated:
    """A PaymentIntent of auto-recharge changed; the recharger reads its state from Stripe."""

    payment_intent_id: str
    attempt_id: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentMethodUpdated:
    """A payment method is on file. Without `details`, the event has no more than its id."""

    payment_method_id: str
    type: str
    customer_id: str | None
    named_organization: str | None
    as_of: datetime
    details: MethodDetails | None = None
    mandate_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentMethodDetached:
    """A payment method was detached. Stripe never attaches it again."""

    payment_method_id: str
    type: str
    customer_id: str | None
    named_organization: str | None
    as_of: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPaymentMethod:
    """A stored payment method; `as_of` is the epoch if no event or answer has described it."""

    id: str
    customer_id: str
    type: str
    details: MethodDetails
    as_of: datetime
    detached: bool = False

    @property
    def described(self) -> bool:
        """Whether its details are known; otherwise only its id is certain."""
        return self.as_of.timestamp() > 0


@dataclass(frozen=True, slots=True)
class DefaultPaymentMethodChanged:
    """The default payment method for a customer's invoices; None: there is no default."""

    customer_id: str
    payment_method_id: str | None
    as_of: datetime


@dataclass(frozen=True, slots=True)
class MandateUpdated:
    """Whether a mandate for bank debits is still active."""

    mandate_id: str
    payment_method_id: str
    active: bool


@dataclass(frozen=True, slots=True)
class CustomerLinked:
    """A Stripe customer belongs to an organization, by a Checkout Session's metadata."""

    customer_id: str
    named_organization: str


@dataclass(frozen=True, slots=True)
class CustomerDeleted:
    """A Stripe customer was deleted, with all its payment methods."""

    customer_id: str
    as_of: datetime


# Applied together for a whole batch; a SeparateMeaning has a savepoint of its own.
BatchMeaning = Ignored | PaymentCaptured | CheckoutClosed | CheckoutPending | CustomerLinked


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionUpdated:
    """The state of a subscription at Stripe at one time."""

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
    """An invoice is paid, or has nothing to pay; `payments.invoices` computes its credits."""

    invoice: Invoice
    paid_at: datetime


@dataclass(frozen=True, slots=True)
class UndescribedPaymentMethod:
    """A payment method on file of which only the id is known."""

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
    """The event is applied; it posted nothing."""

    organization_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Unanswered:
    """The event cannot be applied until Stripe has answered this question."""

    question: Question


async def no_turn() -> None:
    """Take no turn: the transaction is the only one."""


@dataclass(frozen=True, slots=True)
class ApplyContext:
    """Context for applying effects: terms of sale, id factory, clock and Stripe's answers.

    All answers are from `as_of` or later, by PostgreSQL's clock. `answers` is None without a
    `lookup`: a payment is then decided by its event alone. `take_turn` is awaited before the first
    lock of the transaction.
    """

    terms: SaleTerms
    make_id: Callable[[], UUID]
    now: datetime
    answers: Answers | None = None
    as_of: datetime | None = None
    take_turn: Callable[[], Awaitable[None]] = no_turn


@dataclass(frozen=True, slots=True)
class ProcessedEvent:
    """A processed event: its outcome in the inbox, and what it posted, if anything."""

    outcome: EventOutcome
    result: PostedTransaction | None = None
