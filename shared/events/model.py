"""What a Stripe event means to Prepaid, and what applying it came to."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from shared.inbox.model import Settlement
from shared.ledger.model import PostingResult


@dataclass(frozen=True, slots=True)
class Nothing:
    """The event changes nothing here, for the reason given."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentCaptured:
    """Money of a PaymentIntent has been captured: it is to be credited once.

    `amount_minor` is Stripe's integer in the currency's smallest unit. The rest says whose it may
    be.
    """

    payment_intent_id: str
    amount_minor: int
    currency: str
    customer_id: str | None
    charge_id: str | None = None
    checkout_session_id: str | None = None
    purchase_id: UUID | None = None
    named_organization: str | None = None


@dataclass(frozen=True, slots=True)
class CheckoutClosed:
    """A Checkout Session ended without money: `failed` or `expired`."""

    checkout_session_id: str
    state: str


Meaning = Nothing | PaymentCaptured | CheckoutClosed


@dataclass(frozen=True, slots=True)
class Owner:
    """The organization that a payment belongs to."""

    id: UUID
    currency: str


@dataclass(frozen=True, slots=True)
class BoundPayment:
    """A payment as the first event that told of it bound it."""

    organization_id: UUID
    amount_minor: int
    currency: str
    credits: Decimal


@dataclass(frozen=True, slots=True)
class Outcome:
    """An applied event: how it is settled in the inbox, and what it posted, if anything."""

    settlement: Settlement
    result: PostingResult | None = None
