"""Payments, the questions about them to Stripe, and what they sell."""

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
    """Asks Stripe for a payment in one of its accounts; empty: the account of the API key.

    `reversals`: with its refunds and disputes even if the charge shows none. `origin`: with its
    Checkout Session and invoice, which decide whether it is a sale.
    """

    account: str
    payment_intent_id: str
    reversals: bool = False
    origin: bool = True


@dataclass(frozen=True, slots=True)
class PurchasePrice:
    """The net price of a purchase in the currency's smallest unit, and its credits."""

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
    """A payment as Stripe had it at the time of the request.

    `refunded_minor` and `withdrawn_minor` are totals in the payment's currency. `session` is the
    Checkout Session of the payment, `invoice_id` the invoice that it pays.
    """

    payment_intent: PaymentIntent
    refunded_minor: int
    withdrawn_minor: int
    disputes: tuple[Dispute, ...] = ()
    session: CheckoutSession | None = None
    invoice_id: str | None = None


class InvoiceQuestion(NamedTuple):
    """Asks Stripe for what the event of an invoice lacks: all lines, some prices, the payments.

    `origins`: each payment with its Checkout Session, which may have created the invoice.
    """

    account: str
    invoice_id: str
    lines: bool = False
    prices: tuple[str, ...] = ()
    payments: bool = False
    origins: bool = False


@dataclass(frozen=True, slots=True)
class LinkedPayment:
    """A PaymentIntent of an invoice, and the amount that it paid, in minor units.

    `facts`: the payment as Stripe has it; None: not asked, or missing at Stripe.
    """

    payment_intent_id: str
    amount_minor: int
    facts: PaymentFacts | None = None


@dataclass(frozen=True, slots=True)
class InvoiceFacts:
    """Stripe's answer about an invoice: lines (None: as in the event), prices and payments."""

    lines: tuple[InvoiceLine, ...] | None = None
    prices: Mapping[str, Price] = field(default_factory=dict)
    payments: tuple[LinkedPayment, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentCaptured:
    """A PaymentIntent was captured; `sales` decides whether it is a sale.

    `gross_minor` is the amount paid and `net_minor` the price without tax and shipping, in the
    currency's smallest unit; None: only the gross amount is known. The organization is named in the
    metadata of the PaymentIntent, in that of its Checkout Session, or in the session's
    `client_reference_id`, which a buyer may choose. `created` is the time of the event.
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
        """The organizations that it names."""
        named = (self.named_organization, self.session_organization, self.reference_organization)
        return [name for name in named if name is not None]


@dataclass(frozen=True, slots=True)
class PaymentOrganization:
    """The organization that a payment belongs to."""

    id: UUID
    currency: str


@dataclass(frozen=True, slots=True)
class BoundPayment:
    """A payment bound to its organization; `invoice_id` if it paid an invoice."""

    organization_id: UUID
    amount_minor: int
    currency: str
    credits: Decimal
    invoice_id: str | None = None


@dataclass(frozen=True, slots=True)
class PaymentLevel:
    """A bound payment, and the time of Stripe's last applied answer about its reversals."""

    organization_id: UUID
    amount_minor: int
    currency: str
    credits: Decimal
    reversal_as_of: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A purchase or recharge attempt; its price and credits were fixed when it was opened.

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
    """The stored records that decide which organization a payment belongs to.

    `organizations` are those that the payment names, `customer_organization` is the one of its
    Stripe customer.
    """

    bound: BoundPayment | None = None
    offer: Offer | None = None
    organizations: Mapping[str, PaymentOrganization] = field(default_factory=dict)
    customer_organization: PaymentOrganization | None = None


@dataclass(frozen=True, slots=True)
class SaleTerms:
    """The terms of sale of an installation.

    `credits_per_unit` are the credits for one whole unit of currency. `credit_customer_payments`: a
    payment that names only its Stripe customer is a sale. The credits of a sale expire after
    `purchase_expires`; None: never.
    """

    credits_per_unit: Decimal
    credit_customer_payments: bool = False
    purchase_expires: Duration | None = None

    @classmethod
    def of(cls, settings: Settings) -> SaleTerms:
        """Return the terms in an installation's settings."""
        return cls(
            settings.credits_per_unit,
            settings.credit_customer_payments,
            settings.purchase_expires,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sale:
    """A payment to credit: its organization, its credits and its ledger key.

    Refunds and disputes take back their share of `gross_minor`. `net_minor` is None if an invoice
    determines the credits. `binds_customer`: the seller named the organization, so that the
    payment's Stripe customer and saved card become the organization's.
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
    """A payment that is no sale, with the reason.

    `waits_for` is a Stripe customer or the name of an organization: when it becomes known, the
    payment can be a sale.
    """

    reason: str
    waits_for: str | None = None
