"""The written form of a price book, of files and of requests alike.

Prices are text, such as "2.50 / 1M", so that no reader turns them into binary floating point.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

from shared.money import plain
from shared.pricing.model import INPUT_TOKENS, Hours, Price, PriceBook, Rate, Subject, TierBasis
from shared.pricing.rules import unit_name


class TierForm(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A tier: its price above `over`, up to and including `to`; without `to`, without an end."""

    price: str
    over: int = 0
    to: int | None = None


class RateForm(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A price in tiers, selected `by` the quantity of the measure or the length of the prompt."""

    tiers: list[TierForm]
    by: Literal["quantity", "prompt"] = "quantity"


class PriceForm(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """The price of models or of meters, for each measure."""

    models: list[str] = []
    meters: list[str] = []
    minimum: str | None = None
    markup: str | None = None
    hours: list[str] = []
    measures: dict[str, str | RateForm]
    within: dict[str, list[str]] | None = None


class BookForm(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A price book."""

    name: str
    note: str | None = None
    markup: str | None = None
    prompt: list[str] = msgspec.field(default_factory=lambda: [INPUT_TOKENS])
    within: dict[str, list[str]] = {}
    prices: list[PriceForm]


def book_form(book: PriceBook) -> BookForm:
    """Return the written form of a book."""
    return BookForm(
        name=book.name,
        note=book.note,
        markup=_percent(book.markup) if book.markup else None,
        prompt=list(book.prompt),
        within=_lists(book.within),
        prices=[_price_form(price) for price in book.prices],
    )


def _price_form(price: Price) -> PriceForm:
    names = list(price.patterns)
    return PriceForm(
        models=names if price.subject is Subject.MODEL else [],
        meters=names if price.subject is Subject.METER else [],
        minimum=None if price.minimum is None else plain(price.minimum),
        markup=None if price.markup is None else _percent(price.markup),
        hours=[hours_text(part) for part in price.hours],
        measures={name: _rate_form(rate) for name, rate in price.rates.items()},
        within=None if price.within is None else _lists(price.within),
    )


def _rate_form(rate: Rate) -> str | RateForm:
    if len(rate.tiers) == 1:
        return _price_text(rate.tiers[0].price, rate.per)
    return RateForm(
        by="prompt" if rate.by is TierBasis.PROMPT else "quantity",
        tiers=[
            TierForm(
                over=int(tier.over),
                to=None if tier.up_to is None else int(tier.up_to),
                price=_price_text(tier.price, rate.per),
            )
            for tier in rate.tiers
        ],
    )


def _price_text(price: Decimal, per: int) -> str:
    return plain(price) if per == 1 else f"{plain(price)} / {unit_name(per)}"


def hours_text(part: Hours) -> str:
    """Return a part of the day as it is written, such as 00:30-16:30."""
    return f"{part.start:%H:%M}-{part.end:%H:%M}"


def _percent(value: Decimal) -> str:
    return f"{plain(value)}%"


def _lists(within: dict[str, tuple[str, ...]]) -> dict[str, list[str]]:
    return {name: list(wholes) for name, wholes in within.items()}
