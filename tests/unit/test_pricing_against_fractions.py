"""Prices against a second arithmetic, in fractions and from the parts up.

The product subtracts the parts of each measure from the whole. Here, each part is charged at the
nearest measure around it that has a price.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from math import floor

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.pricing.files import from_content, read, to_content, write_toml
from shared.pricing.model import (
    Price,
    PriceBook,
    PricedUsage,
    Rate,
    Subject,
    Tier,
    TierBasis,
    UsageItem,
)
from shared.pricing.rules import UNITS, price_item
from tests.fixtures.profile import cases

# Each measure and the one that it is part of.
WITHIN: dict[str, tuple[str, ...]] = {
    "cached_tokens": ("input_tokens",),
    "cached_audio_tokens": ("cached_tokens",),
    "image_tokens": ("input_tokens",),
    "reasoning_tokens": ("output_tokens",),
}
WHOLES = ("input_tokens", "output_tokens", "seconds")
MEASURES = (*WHOLES, *WITHIN)

prices = st.decimals(0, 10**9, places=18) | st.decimals(0, 10, places=4)
percents = st.decimals(0, 100, places=4)
bounds = st.lists(st.integers(1, 10**6), max_size=4, unique=True).map(sorted)


@st.composite
def rates(draw: st.DrawFn) -> Rate:
    ends = draw(bounds)
    tiers = [
        Tier(
            price=draw(prices),
            over=Decimal(over),
            up_to=None if end is None else Decimal(end),
        )
        for over, end in zip([0, *ends], [*ends, None], strict=True)
    ]
    by = draw(st.sampled_from(TierBasis)) if ends else TierBasis.QUANTITY
    return Rate(tiers=tuple(tiers), per=draw(st.sampled_from([*UNITS.values()])), by=by)


@st.composite
def books(draw: st.DrawFn) -> PriceBook:
    parts = draw(st.sets(st.sampled_from([*WITHIN])))
    price = Price(
        subject=Subject.MODEL,
        patterns=("m",),
        rates={name: draw(rates()) for name in MEASURES if name in {*WHOLES, *parts}},
        minimum=draw(st.none() | st.decimals(0, 10, places=9)),
    )
    return PriceBook(name="b", prices=(price,), within=WITHIN, markup=draw(percents))


quantities = st.fixed_dictionaries(
    {name: st.integers(0, 2 * 10**6) | st.integers(0, 10**13) for name in MEASURES}
)


def reported(parts: Mapping[str, int]) -> dict[str, int]:
    """Return what a provider reports: each measure with what is part of it."""
    sums = dict(parts)
    for name in ("cached_audio_tokens", "cached_tokens", "image_tokens", "reasoning_tokens"):
        sums[WITHIN[name][0]] += sums[name]
    return sums


def charged_at(name: str, rates: Mapping[str, Rate]) -> str:
    return name if name in rates else charged_at(WITHIN[name][0], rates)


def tier_amount(rate: Rate, quantity: int, prompt: int) -> Fraction:
    total = Fraction(0)
    for tier in rate.tiers:
        low = int(tier.over)
        high = quantity + prompt + 1 if tier.up_to is None else int(tier.up_to)
        if rate.by is TierBasis.PROMPT:
            selected = low < prompt <= high or (prompt == low == 0)
            units = quantity if selected else 0
        else:
            units = max(0, min(quantity, high) - low)
        total += units * Fraction(tier.price) / rate.per
    return total


def expected(book: PriceBook, parts: Mapping[str, int], discount: Decimal) -> Fraction:
    (price,) = book.prices
    prompt = reported(parts)["input_tokens"]
    own = dict.fromkeys(price.rates, 0)
    for name, quantity in parts.items():
        own[charged_at(name, price.rates)] += quantity
    amounts = (tier_amount(rate, own[name], prompt) for name, rate in price.rates.items())
    total = sum(amounts, Fraction(0))
    total *= 1 + Fraction(book.markup) / 100
    total *= 1 - Fraction(discount) / 100
    if any(parts.values()) and price.minimum is not None:
        total = max(total, Fraction(price.minimum))
    return Fraction(floor(total * 10**9 + Fraction(1, 2)), 10**9)


@settings(max_examples=cases(quick=30, thorough=300))
@given(books(), quantities, percents)
def test_every_price_is_exact(book: PriceBook, parts: dict[str, int], discount: Decimal) -> None:
    measures = {name: Decimal(quantity) for name, quantity in reported(parts).items()}
    result = price_item(
        UsageItem(model="m", measures=measures), book.prices[0], book, discount=discount
    )
    total = expected(book, parts, discount)
    if total > 10**18:
        assert not isinstance(result, PricedUsage)
        return
    assert isinstance(result, PricedUsage)
    assert Fraction(result.total) == total
    assert sum(line.quantity for line in result.lines) == sum(parts.values())


@settings(max_examples=cases(quick=20, thorough=200))
@given(books())
def test_every_book_is_written_and_read_without_a_loss(book: PriceBook) -> None:
    assert read(write_toml(book), toml=True) == book
    assert from_content(to_content(book), version=0) == book
