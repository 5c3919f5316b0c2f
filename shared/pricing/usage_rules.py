"""Validation of usage before it is priced."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

from shared.pricing.model import PricingRefusal, UsageItem

ITEMS_MAX = 1_000
MEASURES_MAX = 32
MEASURE_LENGTH_MAX = 64
NAME_LENGTH_MAX = 200
QUANTITY_MAX = Decimal(10) ** 15
QUANTITY_DECIMALS_MAX = 9
MEASURE = re.compile(r"[a-z][a-z0-9_]*")
# Names of models and meters, as providers write them.
NAME = re.compile(r"[\w.:/@+~?=-]+", re.ASCII)
_WHOLE = frozenset({"images", "requests"})


def is_whole(measure: str) -> bool:
    """Return whether a measure counts whole things: tokens, images, requests."""
    return measure in _WHOLE or measure.endswith("_tokens")


def containing(measure: str, within: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    """Return every measure that this one is part of, directly or through another."""
    found: set[str] = set()
    waiting = list(within.get(measure, ()))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(within.get(name, ()))
    return frozenset(found)


def item_refusal(item: UsageItem) -> PricingRefusal | None:
    """Say why no book could price an item; None when one may."""
    if (item.model is None) == (item.meter is None):
        return PricingRefusal(location=("model",), message="Name either a model or a meter")
    field, name = ("model", item.model) if item.model is not None else ("meter", item.meter)
    if not name or len(name) > NAME_LENGTH_MAX or not NAME.fullmatch(name):
        return PricingRefusal(
            location=(field,),
            message=f"1 to {NAME_LENGTH_MAX} letters, digits and . : / @ + ~ ? = _ -",
        )
    if not 1 <= len(item.measures) <= MEASURES_MAX:
        return PricingRefusal(location=("measures",), message=f"1 to {MEASURES_MAX} measures")
    for measure, quantity in item.measures.items():
        if error := _quantity_error(measure, quantity):
            return PricingRefusal(location=("measures", measure), message=error)
    return None


def _quantity_error(measure: str, quantity: Decimal) -> str | None:
    if len(measure) > MEASURE_LENGTH_MAX or not MEASURE.fullmatch(measure):
        return (
            f"The name of a measure has 1 to {MEASURE_LENGTH_MAX} lower-case letters, digits and _"
        )
    if not quantity.is_finite():
        return "Must be a finite number"
    if quantity < 0:
        return "Must not be negative"
    # By its exponent first: 1e999999999 in digits is a gigabyte.
    if quantity and (quantity.adjusted() > QUANTITY_MAX.adjusted() or quantity > QUANTITY_MAX):
        return f"Must be at most {QUANTITY_MAX:f}"
    return _decimals_error(measure, quantity) if quantity else None


def _decimals_error(measure: str, quantity: Decimal) -> str | None:
    tiny = quantity.adjusted() < -QUANTITY_DECIMALS_MAX
    decimals = 0 if tiny else len(f"{quantity:f}".partition(".")[2].rstrip("0"))
    if is_whole(measure) and (tiny or decimals):
        return "Must be a whole number"
    if tiny or decimals > QUANTITY_DECIMALS_MAX:
        return f"At most {QUANTITY_DECIMALS_MAX} decimals"
    return None
