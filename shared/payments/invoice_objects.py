"""The Stripe objects of invoices, in every API version: what Prepaid reads of them."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any, ClassVar

import msgspec

from shared.payments.objects import (
    Amount,
    Currency,
    Price,
    Reference,
    Seconds,
    StripeId,
    StripeObject,
)


class PriceDetails(msgspec.Struct, frozen=True):
    """The price of a line since 2025-03-31: an id, unless it is expanded."""

    price: StripeId | Price | None = None


class Pricing(msgspec.Struct, frozen=True):
    """How a line was priced, since 2025-03-31."""

    price_details: PriceDetails | None = None


class LineSource(msgspec.Struct, frozen=True):
    """The subscription item or the invoice item that a line was made from."""

    proration: bool | None = None


class LineParent(msgspec.Struct, frozen=True):
    """The source of a line, since 2025-03-31."""

    subscription_item_details: LineSource | None = None
    invoice_item_details: LineSource | None = None


class Period(msgspec.Struct, frozen=True):
    """The period that a line covers."""

    start: Seconds
    end: Seconds


class Discount(msgspec.Struct, frozen=True):
    """The amount of one discount on a line."""

    amount: Amount = 0


class InvoiceLine(msgspec.Struct, frozen=True):
    """A line. Source: https://docs.stripe.com/api/invoice-line-item/object.

    `price`, `proration` and `type` are what it had before 2025-03-31.
    """

    id: str | None = None
    amount: Amount = 0
    currency: Currency | None = None
    quantity: Amount | None = None
    quantity_decimal: Decimal | None = None
    period: Period | None = None
    discount_amounts: list[Discount] | None = None
    pricing: Pricing | None = None
    parent: LineParent | None = None
    price: StripeId | Price | None = None
    proration: bool = False
    type: str | None = None

    @property
    def priced(self) -> StripeId | Price | None:
        """The price, or its id if it is not expanded, from whichever field has it."""
        details = self.pricing.price_details if self.pricing else None
        return self.price or (details.price if details else None)

    @property
    def is_proration(self) -> bool:
        """Whether it covers a part of a period, after a change."""
        parent = self.parent or LineParent()
        sources = (parent.subscription_item_details, parent.invoice_item_details)
        return self.proration or any(source and source.proration for source in sources)

    @property
    def is_one_off(self) -> bool:
        """Whether it charges something besides the subscription of its invoice."""
        item = self.parent.invoice_item_details if self.parent else None
        return not self.is_proration and (item is not None or self.type == "invoiceitem")


class InvoiceLines(msgspec.Struct, frozen=True):
    """The lines that come with the invoice: the first ten."""

    data: list[InvoiceLine] = []
    has_more: bool = False


class SubscriptionDetails(msgspec.Struct, frozen=True):
    """The subscription behind an invoice."""

    subscription: Reference = None
    metadata: dict[str, Any] | None = None


class InvoiceParent(msgspec.Struct, frozen=True):
    """The source of an invoice, since 2025-03-31."""

    subscription_details: SubscriptionDetails | None = None


class StatusTransitions(msgspec.Struct, frozen=True):
    """The times at which an invoice changed its status."""

    paid_at: Seconds | None = None


class Invoice(StripeObject, frozen=True):
    """An invoice. Source: https://docs.stripe.com/api/invoices/object.

    `period_end` is the end of the usage that it charges for; what is paid in advance ends later.
    `subscription`, `subscription_details` and `payment_intent` are what it had before 2025-03-31.
    """

    OBJECTS: ClassVar = frozenset({"invoice"})

    amount_paid: Amount | None = None
    total: Amount | None = None
    pre_payment_credit_notes_amount: Amount = 0
    total_excluding_tax: Amount | None = None
    currency: Currency | None = None
    customer: Reference = None
    metadata: dict[str, Any] | None = None
    parent: InvoiceParent | None = None
    lines: InvoiceLines | None = None
    status_transitions: StatusTransitions | None = None
    period_end: Seconds | None = None
    subscription: Reference = None
    subscription_details: SubscriptionDetails | None = None
    payment_intent: Reference = None

    @property
    def details(self) -> SubscriptionDetails:
        """Its subscription, from the field of whichever API version."""
        details = self.parent.subscription_details if self.parent else None
        return details or self.subscription_details or SubscriptionDetails(self.subscription)

    @property
    def total_minor(self) -> int:
        """The amount charged, also from the customer's balance or out of band.

        Credit notes from before the payment were never charged.
        """
        if self.total is None:
            return self.amount_paid or 0
        return self.total - self.pre_payment_credit_notes_amount

    @property
    def charged(self) -> Fraction:
        """The part of its lines that is charged: less than 1 after a credit note."""
        if not self.total or not self.pre_payment_credit_notes_amount:
            return Fraction(1)
        return Fraction(self.total_minor, self.total)


class PaidBy(msgspec.Struct, frozen=True):
    """The payment of an invoice: a PaymentIntent, or another kind without one."""

    payment_intent: Reference = None


class InvoicePayment(msgspec.Struct, frozen=True):
    """A payment of an invoice. Source: https://docs.stripe.com/api/invoice-payment/object."""

    id: StripeId
    invoice: Reference = None
    payment: PaidBy | None = None
    amount_paid: Amount | None = None
    status: str | None = None
