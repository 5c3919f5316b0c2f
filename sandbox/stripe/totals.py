"""Discounts and taxes of lines: what Checkout Sessions and invoices compute alike.

https://docs.stripe.com/billing/taxes/tax-rates, https://docs.stripe.com/billing/subscriptions/coupons
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from sandbox.stripe.store import Json

_HUNDRED = Decimal(100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tax:
    """The tax of one rate on one line, in the currency's smallest unit."""

    rate: Json
    amount: int
    taxable: int


@dataclass(slots=True, kw_only=True)
class Line:
    """One line: `amount` is before discounts and taxes, with the tax of inclusive rates in it.

    `discounts` has one amount for each discount, in their order. Amounts of a line that takes
    something back (a proration) are negative.
    """

    amount: int
    rates: Sequence[Json] = ()
    discountable: bool = True
    discounts: list[int] = field(default_factory=list)
    taxes: list[Tax] = field(default_factory=list)

    @property
    def discount(self) -> int:
        """All discounts together."""
        return sum(self.discounts)

    @property
    def tax(self) -> int:
        """All taxes together, inclusive or not."""
        return sum(tax.amount for tax in self.taxes)

    @property
    def inclusive_tax(self) -> int:
        """The taxes that `amount` has in it."""
        return sum(tax.amount for tax in self.taxes if tax.rate["inclusive"])

    @property
    def total(self) -> int:
        """What the line costs in the end."""
        return self.amount - self.discount + self.tax - self.inclusive_tax


def compute(lines: Sequence[Line], coupons: Sequence[Json]) -> None:
    """Fill in the discounts and taxes of lines: one coupon after the other, then the taxes."""
    for line in lines:
        line.discounts, line.taxes = [], []
    for coupon in coupons:
        rests = [max(0, line.amount - line.discount) if line.discountable else 0 for line in lines]
        for line, amount in zip(lines, _shares(rests, coupon), strict=True):
            line.discounts.append(amount)
    for line in lines:
        line.taxes = _taxes(line)


def rounded(exact: Decimal) -> int:
    """Round to the smallest unit, half away from zero."""
    return int(exact.quantize(Decimal(1), rounding=ROUND_HALF_UP))


def _shares(rests: Sequence[int], coupon: Json) -> list[int]:
    if coupon["percent_off"] is not None:
        percent = Decimal(str(coupon["percent_off"]))
        return [rounded(rest * percent / _HUNDRED) for rest in rests]
    return spread(min(coupon["amount_off"], sum(rests)), rests)


def spread(amount: int, weights: Sequence[int]) -> list[int]:
    """Split an amount in proportion to weights; the parts add up to it exactly."""
    total = sum(weights)
    if total == 0:
        return [0] * len(weights)
    parts, distributed, seen = [], 0, 0
    for weight in weights:
        seen += weight
        upto = rounded(Decimal(amount) * seen / total)
        parts.append(upto - distributed)
        distributed = upto
    return parts


def _taxes(line: Line) -> list[Tax]:
    gross = line.amount - line.discount
    inclusive = sum((_share(rate) for rate in line.rates if rate["inclusive"]), Decimal(0))
    net = gross / (1 + inclusive)
    return [
        Tax(rate=rate, amount=rounded(net * _share(rate)), taxable=rounded(net))
        for rate in line.rates
    ]


def _share(rate: dict[str, Any]) -> Decimal:
    return Decimal(str(rate["percentage"])) / _HUNDRED
