"""The Stripe objects that Prepaid reads, with the fields that it needs and no others.

Stripe's API versions move and rename fields, and expand ids into objects: each type accepts every
known form of its fields.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, ClassVar

import msgspec

# Metadata that Prepaid writes to the objects that it creates, to recognize them later.
ORGANIZATION_METADATA = "organization_id"
PURCHASE_METADATA = "purchase_id"
ATTEMPT_METADATA = "recharge_attempt_id"
# The trigger of the attempt: a top-up is a purchase, although it is charged like a recharge.
TRIGGER_METADATA = "recharge_trigger"
TOP_UP = "top_up"

# Metadata that operators write to an invoice, a subscription or a price: its credits, and when they
# expire.
CREDITS_METADATA = "prepaid_credits"
EXPIRES_METADATA = "prepaid_expires"

AMOUNT_MINOR_MAX = 10**17  # far above Stripe's own limit; below what PostgreSQL's bigint holds

Amount = Annotated[int, msgspec.Meta(ge=-AMOUNT_MINOR_MAX, le=AMOUNT_MINOR_MAX)]
StripeId = Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")]
Seconds = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799)]  # Unix time, to the year 9999
SmallNumber = Annotated[int, msgspec.Meta(ge=0, le=32_767)]  # what PostgreSQL's smallint holds
Currency = Annotated[str, msgspec.Meta(pattern=r"^[a-z]{3}$")]


class Expanded(msgspec.Struct, frozen=True):
    """An expanded object in place of an id; only its id is read."""

    id: StripeId


Reference = StripeId | Expanded | None


class StripeObject(msgspec.Struct, frozen=True):
    """An object of an event or a response. `OBJECTS` are the values of its field `object`."""

    OBJECTS: ClassVar[frozenset[str]] = frozenset()

    id: StripeId


class Charge(msgspec.Struct, frozen=True):
    """An expanded charge, with what shows whether any of it was refunded or disputed."""

    id: StripeId
    amount_refunded: Amount | None = None
    disputed: bool | None = None


class TaxAmount(msgspec.Struct, frozen=True):
    """The tax in a PaymentIntent's amount."""

    total_tax_amount: Amount | None = None


class ShippingAmount(msgspec.Struct, frozen=True):
    """The shipping in a PaymentIntent's amount."""

    amount: Amount | None = None


class AmountDetails(msgspec.Struct, frozen=True):
    """The parts of a PaymentIntent's amount, if they were set at its creation."""

    tax: TaxAmount | None = None
    shipping: ShippingAmount | None = None


class Presentment(msgspec.Struct, frozen=True):
    """The price in the customer's own currency, where the payment's is another."""

    presentment_amount: Amount
    presentment_currency: Currency


class PaymentIntent(StripeObject, frozen=True):
    """A PaymentIntent. Source: https://docs.stripe.com/api/payment_intents/object."""

    OBJECTS: ClassVar = frozenset({"payment_intent"})

    currency: Currency
    status: str
    amount_received: Amount
    amount: Amount = 0
    customer: Reference = None
    latest_charge: StripeId | Charge | None = None
    amount_details: AmountDetails | None = None
    metadata: dict[str, Any] | None = None
    payment_method: Reference = None
    payment_method_types: list[str] | None = None
    setup_future_usage: str | None = None
    presentment_details: Presentment | None = None
    invoice: Reference = None  # since 2025-03-31, the invoice lists its payments instead


class PaymentReference(StripeObject, frozen=True):
    """A PaymentIntent of an attempt, in any status: its id and metadata."""

    OBJECTS: ClassVar = frozenset({"payment_intent"})

    metadata: dict[str, Any] | None = None


class TotalDetails(msgspec.Struct, frozen=True):
    """The parts of a session's total besides its items."""

    amount_tax: Amount = 0
    amount_shipping: Amount | None = 0


class ShippingCost(msgspec.Struct, frozen=True):
    """The cost of shipping, and its tax, which `amount_total` always includes."""

    amount_subtotal: Amount = 0
    amount_tax: Amount = 0
    amount_total: Amount = 0


class CheckoutSession(StripeObject, frozen=True):
    """A Checkout Session. Source: https://docs.stripe.com/api/checkout/sessions/object."""

    OBJECTS: ClassVar = frozenset({"checkout.session"})

    mode: str
    payment_status: str
    amount_total: Amount | None = None
    total_details: TotalDetails | None = None
    shipping_cost: ShippingCost | None = None
    currency: Currency | None = None
    payment_intent: Reference = None
    customer: Reference = None
    client_reference_id: str | None = None
    metadata: dict[str, Any] | None = None


class Refund(StripeObject, frozen=True):
    """A refund. Source: https://docs.stripe.com/api/refunds/object."""

    OBJECTS: ClassVar = frozenset({"refund"})

    amount: Amount = 0
    status: str | None = None
    balance_transaction: Reference = None
    payment_intent: Reference = None
    charge: Reference = None


class BalanceTransaction(msgspec.Struct, frozen=True):
    """A movement of the Stripe balance; `amount` is before fees, in the balance's currency."""

    amount: Amount
    currency: Currency | None = None


class Dispute(StripeObject, frozen=True):
    """A dispute. Source: https://docs.stripe.com/api/disputes/object."""

    OBJECTS: ClassVar = frozenset({"dispute"})

    amount: Amount = 0
    currency: Currency | None = None
    status: str = "needs_response"
    reason: str | None = None
    created: Seconds = 0
    payment_intent: Reference = None
    charge: Reference = None
    balance_transactions: list[BalanceTransaction] | None = None


class OfPayment(StripeObject, frozen=True):
    """A charge, refund or dispute; only its id and its payment are read."""

    OBJECTS: ClassVar = frozenset({"charge", "refund", "dispute"})

    payment_intent: Reference = None


class EarlyFraudWarning(StripeObject, frozen=True):
    """A warning. Source: https://docs.stripe.com/api/radar/early_fraud_warnings/object."""

    OBJECTS: ClassVar = frozenset({"radar.early_fraud_warning"})

    payment_intent: Reference = None
    charge: Reference = None
    fraud_type: str | None = None


class MethodDetails(msgspec.Struct, frozen=True):
    """The details by which people recognize a card or a bank account."""

    brand: str | None = None
    bank_name: str | None = None
    last4: str | None = None
    exp_month: SmallNumber | None = None
    exp_year: SmallNumber | None = None
    fingerprint: str | None = None


class PaymentMethod(StripeObject, frozen=True):
    """A PaymentMethod. Source: https://docs.stripe.com/api/payment_methods/object.

    Details are read of the types that have any. The others (wallets, Link, Cash App and the like)
    have only their type.
    """

    OBJECTS: ClassVar = frozenset({"payment_method"})

    type: str = "unknown"
    customer: Reference = None
    metadata: dict[str, Any] | None = None
    acss_debit: MethodDetails | None = None
    au_becs_debit: MethodDetails | None = None
    bacs_debit: MethodDetails | None = None
    card: MethodDetails | None = None
    kr_card: MethodDetails | None = None
    nz_bank_account: MethodDetails | None = None
    payto: MethodDetails | None = None
    pix: MethodDetails | None = None
    sepa_debit: MethodDetails | None = None
    us_bank_account: MethodDetails | None = None

    @property
    def details(self) -> MethodDetails:
        """The details of its type."""
        details = getattr(self, self.type, None) if self.type in self.__struct_fields__ else None
        return details if isinstance(details, MethodDetails) else MethodDetails()


class PreviousOwner(msgspec.Struct, frozen=True):
    """The customer of a PaymentMethod before its detachment, in `previous_attributes`."""

    customer: Reference = None


class SetupIntent(StripeObject, frozen=True):
    """A SetupIntent. Source: https://docs.stripe.com/api/setup_intents/object."""

    OBJECTS: ClassVar = frozenset({"setup_intent"})

    customer: Reference = None
    payment_method: Reference = None
    payment_method_types: list[str] | None = None
    mandate: Reference = None
    metadata: dict[str, Any] | None = None


class Mandate(StripeObject, frozen=True):
    """A mandate. Source: https://docs.stripe.com/api/mandates/object."""

    OBJECTS: ClassVar = frozenset({"mandate"})

    status: str
    payment_method: Reference = None


class InvoiceSettings(msgspec.Struct, frozen=True):
    """The default payment method of a customer's invoices."""

    default_payment_method: Reference = None


class Customer(StripeObject, frozen=True):
    """A customer. Source: https://docs.stripe.com/api/customers/object."""

    OBJECTS: ClassVar = frozenset({"customer"})

    invoice_settings: InvoiceSettings | None = None
    deleted: bool = False

    @property
    def default_payment_method(self) -> str | None:
        """The default payment method of its invoices; None: there is none."""
        settings = self.invoice_settings
        return reference_id(settings.default_payment_method) if settings else None


class Recurring(msgspec.Struct, frozen=True):
    """How often a price is charged: every `interval_count` days, weeks, months or years."""

    interval: str
    interval_count: int = 1


class TransformQuantity(msgspec.Struct, frozen=True):
    """How a quantity becomes the number of packages that are charged: divided, then rounded."""

    divide_by: Annotated[int, msgspec.Meta(ge=1)]
    round: str = "up"


class Price(StripeObject, frozen=True):
    """A price. Source: https://docs.stripe.com/api/prices/object.

    A tiered price has no unit amount; one with fractions of the smallest unit has
    `unit_amount_decimal` alone.
    """

    OBJECTS: ClassVar = frozenset({"price"})

    metadata: dict[str, Any] | None = None
    currency: Currency | None = None
    unit_amount: Amount | None = None
    unit_amount_decimal: Decimal | None = None
    recurring: Recurring | None = None
    transform_quantity: TransformQuantity | None = None


class SubscriptionItem(msgspec.Struct, frozen=True):
    """An item. It has the period since 2025-03-31; before, the subscription had it."""

    price: Price | None = None
    current_period_end: Seconds | None = None


class SubscriptionItems(msgspec.Struct, frozen=True):
    """The first page of a subscription's items."""

    data: list[SubscriptionItem] = []


class Subscription(StripeObject, frozen=True):
    """A subscription. Source: https://docs.stripe.com/api/subscriptions/object."""

    OBJECTS: ClassVar = frozenset({"subscription"})

    status: str
    customer: Reference = None
    metadata: dict[str, Any] | None = None
    items: SubscriptionItems | None = None
    start_date: Seconds | None = None
    cancel_at: Seconds | None = None
    ended_at: Seconds | None = None
    current_period_end: Seconds | None = None

    @property
    def first_item(self) -> SubscriptionItem:
        """The item of the plan: most subscriptions have only one item."""
        parts = self.items.data if self.items else []
        return parts[0] if parts else SubscriptionItem()


def reference_id(reference: Reference | Charge) -> str | None:
    """Return the id, whether or not the object was expanded."""
    return reference.id if isinstance(reference, Expanded | Charge) else reference
