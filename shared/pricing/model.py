"""Types of pricing: a price book, an item of usage, and the price of one by the other.

Every quantity, price and percentage is an exact decimal; every amount is in credits.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from datetime import datetime, time
from decimal import Decimal
from operator import attrgetter

import msgspec

DEFAULT_BOOK = "default"
INPUT_TOKENS = "input_tokens"
REQUESTS = "requests"


class Subject(enum.StrEnum):
    """What a price is for."""

    MODEL = "model"
    METER = "meter"


class TierBasis(enum.StrEnum):
    """What selects a tier.

    `quantity`: each tier prices the part of the measure within its bounds (graduated).
    `prompt`: the length of the prompt selects one tier for the whole measure.
    """

    QUANTITY = "quantity"
    PROMPT = "prompt"


class Tier(msgspec.Struct, frozen=True, kw_only=True):
    """The price from above `over` up to and including `up_to`; None: without an end."""

    price: Decimal
    over: Decimal = Decimal(0)
    up_to: Decimal | None = None


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """The price of a measure: credits for each `per` units, in tiers that begin at 0."""

    tiers: tuple[Tier, ...]
    per: int = 1
    by: TierBasis = TierBasis.QUANTITY


class Hours(msgspec.Struct, frozen=True, kw_only=True):
    """A part of each day in UTC, from `start` until before `end`; it may span midnight."""

    start: time
    end: time


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """The price of the models or meters that one of `patterns` matches (`*`: any text).

    `minimum` is the least that an item with any quantity costs. `markup` and `within` replace the
    book's. With `hours` the price is valid in those parts of the day alone, and precedes one
    without.
    """

    subject: Subject
    patterns: tuple[str, ...]
    rates: dict[str, Rate]
    minimum: Decimal | None = None
    markup: Decimal | None = None
    within: dict[str, tuple[str, ...]] | None = None
    hours: tuple[Hours, ...] = ()


class PriceBook(msgspec.Struct, frozen=True, kw_only=True):
    """Prices under a name. A stored one has a `version`, and never changes.

    `markup` is a percentage on every price. `within` names the measures that a measure is part of:
    where both have prices, the part is not charged twice. `prompt` names the measures whose sum is
    the length of a prompt.
    """

    name: str
    prices: tuple[Price, ...]
    version: int = 0
    markup: Decimal = Decimal(0)
    within: dict[str, tuple[str, ...]] = {}
    prompt: tuple[str, ...] = (INPUT_TOKENS,)
    note: str | None = None


class UsageItem(msgspec.Struct, frozen=True, kw_only=True):
    """Usage to price: of one model or one meter, by measure."""

    measures: dict[str, Decimal]
    model: str | None = None
    meter: str | None = None


class PriceLine(msgspec.Struct, frozen=True, kw_only=True):
    """The amount of one measure, or of one tier of it: quantity * unit_price / per.

    `amount` is before markup and discount, and exact; where it does not end (a price per 60 or
    3600), it is rounded to 18 decimals, and the total is computed from the exact value.
    """

    measure: str
    quantity: Decimal
    unit_price: Decimal
    per: int
    amount: Decimal


class PricedUsage(msgspec.Struct, frozen=True, kw_only=True):
    """The price of an item: `total` in credits, rounded half-up to 9 decimals, and how it arose."""

    item: UsageItem
    book: str
    version: int
    measures: dict[str, Decimal]
    lines: tuple[PriceLine, ...]
    markup: Decimal
    discount: Decimal
    minimum: Decimal | None
    total: Decimal


class PricingRefusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why an item has no price: the location inside the item, a sentence, and its type."""

    location: tuple[str, ...]
    message: str
    type: str = "value_error"


class Discount(msgspec.Struct, frozen=True, kw_only=True):
    """A percentage off for an organization, on models or meters that a pattern matches."""

    pattern: str
    percent: Decimal
    valid_from: datetime


class Activation(msgspec.Struct, frozen=True, kw_only=True):
    """The version of a book that is valid from a moment on, until the next activation."""

    version: int
    active_from: datetime


def version_at(activations: Iterable[Activation], at: datetime) -> int | None:
    """Return the version of a book that is valid at a moment; None before the first."""
    past = [a for a in activations if a.active_from <= at]
    return max(past, key=attrgetter("active_from")).version if past else None


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """The book of an organization from a moment on."""

    name: str
    valid_from: datetime


class OrganizationPricing(msgspec.Struct, frozen=True, kw_only=True):
    """What an organization's prices depend on, besides the content of books."""

    assignments: tuple[Assignment, ...]
    discounts: tuple[Discount, ...]

    def book_at(self, at: datetime) -> str:
        """Return the name of the book at a moment."""
        past = [a for a in self.assignments if a.valid_from <= at]
        return max(past, key=attrgetter("valid_from")).name if past else DEFAULT_BOOK
