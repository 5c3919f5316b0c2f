"""A payment as Stripe has it, what it was opened for, and what it sells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from shared.config import Settings
from shared.durations import Duration
from shared.ledger.model import TransactionType
from shared.payments.invoice_objects import InvoiceLine
from shared.payments.objects import CheckoutSession, Dispute, PaymentIntent, Price


class PaymentQuestion(NamedTuple):
    """Asks Stripe for a payment in one of its accounts; an empty account is the key's own.

    `reversals`: the refunds and disputes are asked for even where the charge shows none. `origin`:
    so are the Checkout Session and the invoice behind it, which say whether it is a sale.
    """

    account: str
    payment_intent_id: str
    reversals: bool = False
    origin: bool = True


@dataclass(frozen=True, slots=True)
class PurchasePrice:
    """What is sold: the net price in the currency's smallest unit, and the credits it buys."""

    amount_minor: int
    currency: str
    credits: Decimal
    credits_per_unit: Decimal


@dataclass(frozen=True, slots=True)
class MethodQuestion:
    """Asks Stripe for a payment method in one of its accounts."""

    account: str
    payment_method_id: str


@dataclass(frozen=True, slots=True)
class CustomerQuestion:
    """Asks Stripe for a customer in one of its accounts: which payment method is the default."""

    account: str
    customer_id: str


@dataclass(frozen=True, slots=True)
class SubscriptionQuestion:
    """Asks Stripe for a subscription in one of its accounts."""

    account: str
    subscription_id: str


@dataclass(frozen=True, slots=True)
class PaymentFacts:
    """A payment as Stripe had it when it was asked.

    `refunded_minor` and `withdrawn_minor` are levels, all in all, in the payment's currency.
    `session` is the Checkout Session that it was paid on, `invoice_id` the invoice that it pays.
    """

    payment_intent: PaymentIntent
    refunded_minor: int
    withdrawn_minor: int
    disputes: tuple[Dispute, ...] = ()
    session: CheckoutSession | None = None
    invoice_id: str | None = None


class InvoiceQuestion(NamedTuple):
    """Asks Stripe for what the event of an invoice lacks: all lines, some prices, the payments.

    `origins`: with each payment, the Checkout Session behind it, which may have made the invoice.
    """

    account: str
    invoice_id: str
    lines: bool = False
    prices: tuple[str, ...] = ()
    payments: bool = False
    origins: bool = False


@dataclass(frozen=True, slots=True)
class LinkedPayment:
    """A PaymentIntent that pays an invoice, and how much of it, in the invoice's smallest unit.

    `facts`: what Stripe says of the payment; None where it was not asked, or does not know it.
    """

    payment_intent_id: str
    amount_minor: int
    facts: PaymentFacts | None = None


@dataclass(frozen=True, slots=True)
class InvoiceFacts:
    """What Stripe says of an invoice: its lines (None: as in the event), prices and payments."""

    lines: tuple[InvoiceLine, ...] | None = None
    prices: Mapping[str, Price] = field(default_factory=dict)
    payments: tuple[LinkedPayment, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentCaptured:
    """Money of a PaymentIntent has been captured. Whether it is a sale is decided by `sales`.

    `gross_minor` is what was paid and `net_minor` the price without tax and shipping, in the
    currency's smallest unit; None: only the gross amount is known. The organization is named by the
    metadata of the PaymentIntent, by that of its Checkout Session, or by the session's
    `client_reference_id`, which a buyer may choose. `created` is the moment of the event.
    """

    payment_intent_id: str
    gross_minor: int
    currency: str
    customer_id: str | None
    account: str = ""
    net_minor: int | None = None
    charge_id: str | None = None
    checkout_session_id: str | None = None
    purchase_id: UUID | None = None
    attempt_id: UUID | None = None
    named_organization: str | None = None
    session_organization: str | None = None
    reference_organization: str | None = None
    invoice_id: str | None = None
    saved_method: str | None = None
    saved_method_type: str = "unknown"
    created: datetime | None = None

    @property
    def names(self) -> list[str]:
        """Every name of an organization that it carries."""
        named = (self.named_organization, self.session_organization, self.reference_organization)
        return [name for name in named if name is not None]


@dataclass(frozen=True, slots=True)
class PaymentOrganization:
    """The organization that a payment belongs to."""

    id: UUID
    currency: str


@dataclass(frozen=True, slots=True)
class BoundPayment:
    """A payment as it was bound to its organization; `invoice_id` where an invoice sold it."""

    organization_id: UUID
    amount_minor: int
    currency: str
    credits: Decimal
    invoice_id: str | None = None


@dataclass(frozen=True, slots=True)
class PaymentLevel:
    """A bound payment, and when Stripe was last asked what is taken back of it."""

    organization_id: UUID
    amount_minor: int
    currency: str
    credits: Decimal
    reversal_as_of: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A purchase or recharge attempt of ours: what it sells was fixed when it was opened.

    `credits` are None for a purchase that an older release opened.
    """

    organization_id: UUID
    currency: str
    net_minor: int
    credits: Decimal | None
    type: TransactionType
    description: str


@dataclass(frozen=True, slots=True)
class Claim:
    """Who may own a payment, by what is stored here.

    `organizations` are those that its names lead to, `customer_organization` the one of its Stripe
    customer.
    """

    bound: BoundPayment | None = None
    offer: Offer | None = None
    organizations: Mapping[str, PaymentOrganization] = field(default_factory=dict)
    customer_organization: PaymentOrganization | None = None


@dataclass(frozen=True, slots=True)
class SaleTerms:
    """How an installation sells: the rate, and what it takes for a sale.

    `credits_per_unit` is what one whole unit of currency buys. `credit_customer_payments`: a
    payment that is known by its Stripe customer alone is a sale. `purchase_expires` after a sale
    its credits expire; None: never.
    """

    credits_per_unit: Decimal
    credit_customer_payments: bool = False
    purchase_expires: Duration | None = None

    @classmethod
    def of(cls, settings: Settings) -> SaleTerms:
        """Return the terms that an installation's settings make."""
        return cls(
            settings.credits_per_unit,
            settings.credit_customer_payments,
            settings.purchase_expires,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sale:
    """A payment that is credited: to whom, with what, under which key of the ledger.

    `gross_minor` is what refunds and disputes take their share of; `net_minor` is None where an
    invoice says what it brings. `binds_customer`: whoever opened the payment named the
    organization, so that its Stripe customer and its saved card become the organization's.
    """

    payment_intent_id: str
    organization_id: UUID
    gross_minor: int
    net_minor: int | None
    currency: str
    credits: Decimal
    type: TransactionType = TransactionType.PURCHASE
    description: str = "Credit purchase"
    account: str = ""
    customer_id: str | None = None
    charge_id: str | None = None
    invoice_id: str | None = None
    expires_at: datetime | None = None
    binds_customer: bool = False


@dataclass(frozen=True, slots=True)
class NotSold:
    """A payment that brings no credits, and why.

    `waits_for` is the Stripe customer, or the name of an organization, that somebody must have
    before it can be a sale.
    """

    reason: str
    waits_for: str | None = None
