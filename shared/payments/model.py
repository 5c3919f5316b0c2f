"""What Stripe says of a payment when it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from shared.payments.objects import Dispute, PaymentIntent


class PaymentKey(NamedTuple):
    """A payment in a Stripe account; an empty account is the key's own."""

    account: str
    payment_intent_id: str


@dataclass(frozen=True, slots=True)
class Price:
    """What is sold: the net price in the currency's smallest unit, and the credits it buys."""

    amount_minor: int
    currency: str
    credits: Decimal
    credits_per_unit: Decimal


@dataclass(frozen=True, slots=True)
class Facts:
    """A payment as Stripe had it when it was asked.

    `refunded_minor` and `withdrawn_minor` are levels, all in all, in the payment's currency.
    """

    payment_intent: PaymentIntent
    refunded_minor: int
    withdrawn_minor: int
    disputes: tuple[Dispute, ...] = ()
