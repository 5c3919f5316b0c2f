"""The arithmetic of prices: exact decimals, and one rounding.

The amounts of all lines are added, then markup, discount and minimum apply, and the total is
rounded once: half-up to 9 decimals of a credit.
"""

from __future__ import annotations

import decimal
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache

from shared.money import CREDIT_DECIMALS_MAX, plain
from shared.pricing.model import (
    REQUESTS,
    Price,
    PriceBook,
    PricedUsage,
    PriceLine,
    PricingRefusal,
    Rate,
    Subject,
    TierBasis,
    UsageItem,
)
from shared.pricing.usage_rules import containing, item_refusal

# The units that a price may be for. Few, so that every sum has a small common denominator.
UNITS = {"1": 1, "60": 60, "3600": 3_600, "1K": 1_000, "1M": 1_000_000, "1B": 1_000_000_000}
COMMON_UNIT = 9_000_000_000  # a multiple of each unit
TOTAL_MAX = Decimal(10) ** 18  # the ledger's largest amount
LINE_DECIMALS = 18
# Longer than the time after which each process sees a change, whatever their clocks.
NOTICE_SECONDS = 5
AHEAD_DAYS_MAX = 3_660
# How long ago usage may have happened to have the price of that moment with any key.
LATE_SECONDS_MAX = 3_600
_HUNDRED = Decimal(100)
# Wide enough for every product of what validation accepts; Inexact raises instead of rounding.
EXACT = decimal.Context(
    prec=256,
    rounding=decimal.ROUND_HALF_UP,
    traps=[decimal.Inexact, decimal.InvalidOperation, decimal.Overflow, decimal.DivisionByZero],
)
_ROUNDING = decimal.Context(prec=256, rounding=decimal.ROUND_HALF_UP, traps=[])


def subject_of(item: UsageItem) -> tuple[Subject, str]:
    """Return whether an item is of a model or a meter, and its name."""
    if item.model is not None:
        return Subject.MODEL, item.model
    return Subject.METER, item.meter or ""


def price_item(
    item: UsageItem, price: Price, book: PriceBook, *, discount: Decimal = Decimal(0)
) -> PricedUsage | PricingRefusal:
    """Return the price of an item by the price that its book has for it.

    Where requests have a price, an item is one request unless it says otherwise. A measure without
    a price is included in a priced one that it is within; otherwise it is refused, unless it is 0.
    """
    if refused := item_refusal(item):
        return refused
    within = book.within if price.within is None else price.within
    measures = dict(item.measures)
    if REQUESTS in price.rates:
        measures.setdefault(REQUESTS, Decimal(1))
    with decimal.localcontext(EXACT):
        quantities = own_quantities(measures, price.rates, within)
        if refused := _measures_refusal(measures, price, within, quantities):
            return refused
        prompt = sum((measures.get(name, Decimal(0)) for name in book.prompt), Decimal(0))
        lines = tuple(_lines(price.rates, quantities, prompt))
        markup = book.markup if price.markup is None else price.markup
        minimum = price.minimum if any(measures.values()) else None
        total = _total(lines, markup=markup, discount=discount, minimum=minimum)
    if total > TOTAL_MAX:
        return PricingRefusal(
            location=("measures",),
            message=f"The price of {plain(total)} credits is more than {TOTAL_MAX:f}",
        )
    return PricedUsage(
        item=item,
        book=book.name,
        version=book.version,
        measures=measures,
        lines=lines,
        markup=markup,
        discount=discount,
        minimum=minimum,
        total=total,
    )


def own_quantities(
    measures: Mapping[str, Decimal],
    rates: Mapping[str, Rate],
    within: Mapping[str, tuple[str, ...]],
) -> dict[str, Decimal]:
    """Return the quantity of each priced measure without its parts that have prices of their own.

    A part of a part counts once. A negative quantity means that the parts exceed the whole.
    """
    parents = {name: containing(name, within) & rates.keys() for name in rates}
    own: dict[str, Decimal] = {}
    # The deepest parts first: what is within a measure has more ancestors than the measure.
    for name in sorted(rates, key=lambda name: (-len(parents[name]), name)):
        parts = (own[part] for part in own if name in parents[part])
        own[name] = measures.get(name, Decimal(0)) - sum(parts, Decimal(0))
    return own


def _measures_refusal(
    measures: Mapping[str, Decimal],
    price: Price,
    within: Mapping[str, tuple[str, ...]],
    own: Mapping[str, Decimal],
) -> PricingRefusal | None:
    zero = Decimal(0)
    for name, quantity in measures.items():
        wholes = containing(name, within)
        if quantity and name not in price.rates and not wholes & price.rates.keys():
            known = ", ".join(sorted(price.rates))
            return PricingRefusal(
                location=("measures", name),
                message=f"{price.patterns[0]} has no price for {name}; it has for: {known}",
                type="unknown_measure",
            )
        for whole in sorted(wholes & (price.rates.keys() | measures.keys())):
            if quantity > measures.get(whole, zero):
                return PricingRefusal(
                    location=("measures", name),
                    message=f"{name} ({plain(quantity)}) is part of {whole}"
                    f" ({plain(measures.get(whole, zero))}) and cannot exceed it",
                )
    for name, quantity in own.items():
        if quantity < 0:
            return PricingRefusal(
                location=("measures", name),
                message=f"The parts of {name} exceed it by {plain(-quantity)}",
            )
    return None


def _lines(
    rates: Mapping[str, Rate], quantities: Mapping[str, Decimal], prompt: Decimal
) -> Iterable[PriceLine]:
    for measure, rate in rates.items():
        for quantity, unit_price in _tier_quantities(rate, quantities[measure], prompt):
            if quantity:
                yield PriceLine(
                    measure=measure,
                    quantity=quantity,
                    unit_price=unit_price,
                    per=rate.per,
                    amount=_line_amount(quantity * unit_price, rate.per),
                )


def _tier_quantities(
    rate: Rate, quantity: Decimal, prompt: Decimal
) -> Iterable[tuple[Decimal, Decimal]]:
    if rate.by is TierBasis.PROMPT:
        tier = [tier for tier in rate.tiers if prompt > tier.over or not tier.over][-1]
        return [(quantity, tier.price)]
    ends = (quantity if tier.up_to is None else min(quantity, tier.up_to) for tier in rate.tiers)
    return [
        (end - tier.over, tier.price)
        for tier, end in zip(rate.tiers, ends, strict=True)
        if end > tier.over
    ]


def _line_amount(product: Decimal, per: int) -> Decimal:
    try:
        return EXACT.divide(product, Decimal(per))
    except decimal.Inexact:
        amount = _ROUNDING.divide(product, Decimal(per))
        return amount.quantize(Decimal(1).scaleb(-LINE_DECIMALS), context=_ROUNDING)


def _total(
    lines: Iterable[PriceLine], *, markup: Decimal, discount: Decimal, minimum: Decimal | None
) -> Decimal:
    """Return the total, as a fraction until its only rounding."""
    factor = (_HUNDRED + markup) * (_HUNDRED - discount)
    products = (line.quantity * line.unit_price * (COMMON_UNIT // line.per) for line in lines)
    numerator = sum(products, Decimal(0)) * factor
    denominator = COMMON_UNIT * _HUNDRED * _HUNDRED
    if minimum is not None and numerator < minimum * denominator:
        numerator = minimum * denominator
    return _half_up(numerator, denominator)


def _half_up(numerator: Decimal, denominator: Decimal) -> Decimal:
    """Round a fraction that is not negative, half-up to 9 decimals: floor(n / d * 1e9 + 1/2)."""
    scaled = (2 * numerator).scaleb(CREDIT_DECIMALS_MAX) + denominator
    return (scaled // (2 * denominator)).scaleb(-CREDIT_DECIMALS_MAX)


@cache
def unit_name(per: int) -> str:
    """Return the name of a unit in files and requests, such as 1M."""
    return next(name for name, unit in UNITS.items() if unit == per)


def pricing_moment(happened: datetime | None, *, now: datetime, is_limited: bool) -> datetime:
    """Return the moment whose prices usage has: when it happened, and never one to come.

    `is_limited`: no more than an hour ago, so that the caller cannot choose an old version.
    """
    moment = now if happened is None else min(happened, now)
    return max(moment, now - timedelta(seconds=LATE_SECONDS_MAX)) if is_limited else moment


def activation_moment(requested: datetime | None, *, now: datetime, first: bool) -> datetime | str:
    """Return when a change of prices becomes valid, or why it cannot at the requested moment.

    Not in the past, so that what was charged keeps its price. Not within the next 5 seconds
    either, unless there is nothing that it replaces: by then every process knows of it.
    """
    earliest = now if first else now + timedelta(seconds=NOTICE_SECONDS)
    if requested is None:
        return earliest
    if requested.tzinfo is None:
        return "must name its time zone"
    if requested < earliest:
        return (
            f"must be {earliest.isoformat(timespec='seconds')} or later: what was charged keeps its"
            f" price, and every process knows of a change after {NOTICE_SECONDS} seconds. Leave it"
            " out for the earliest moment"
        )
    if requested > now + timedelta(days=AHEAD_DAYS_MAX):
        return f"must be within {AHEAD_DAYS_MAX} days"
    return requested
