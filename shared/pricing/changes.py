"""What differs between two price books."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from shared.money import plain
from shared.pricing.forms import hours_text
from shared.pricing.model import Price, PriceBook, Rate, Subject, TierBasis
from shared.pricing.rules import unit_name


class PriceChange(msgspec.Struct, frozen=True, kw_only=True):
    """One difference: what it is about, and its text before and after; None: absent."""

    name: str
    measure: str
    before: str | None
    after: str | None


def changes(before: PriceBook, after: PriceBook) -> list[PriceChange]:
    """Return each measure, of a model or meter, whose price differs, and what else differs."""
    found = [
        _change("book", name, old, new)
        for name, old, new in (
            ("markup", f"{plain(before.markup)}%", f"{plain(after.markup)}%"),
            ("prompt", ", ".join(before.prompt), ", ".join(after.prompt)),
            ("within", _within(before.within), _within(after.within)),
        )
        if old != new
    ]
    old_texts, new_texts = _texts(before), _texts(after)
    keys = dict.fromkeys([*old_texts, *new_texts])
    return found + [
        _change(*key, old_texts.get(key), new_texts.get(key))
        for key in keys
        if old_texts.get(key) != new_texts.get(key)
    ]


def rate_text(rate: Rate) -> str:
    """Return a rate in one line, such as 2.5 / 1M."""
    unit = "" if rate.per == 1 else f" / {unit_name(rate.per)}"
    if len(rate.tiers) == 1:
        return f"{plain(rate.tiers[0].price)}{unit}"
    tiers = ", ".join(f"{plain(tier.price)}{unit} over {plain(tier.over)}" for tier in rate.tiers)
    return f"{tiers} (by prompt)" if rate.by is TierBasis.PROMPT else tiers


def _texts(book: PriceBook) -> dict[tuple[str, str], str]:
    return {key: text for price in book.prices for key, text in _price_texts(price)}


def _price_texts(price: Price) -> Iterator[tuple[tuple[str, str], str]]:
    hours = "".join(f" at {hours_text(part)}" for part in price.hours)
    for pattern in price.patterns:
        subject = "" if price.subject is Subject.MODEL else "meter "
        name = f"{subject}{pattern.lower()}{hours}"
        for measure, rate in price.rates.items():
            yield (name, measure), rate_text(rate)
        for setting, value in (("minimum", price.minimum), ("markup", price.markup)):
            if value is not None:
                yield (name, setting), plain(value) + ("%" if setting == "markup" else "")
        if price.within is not None:
            yield (name, "within"), _within(price.within)


def _within(within: dict[str, tuple[str, ...]]) -> str:
    return "; ".join(f"{name} in {', '.join(wholes)}" for name, wholes in sorted(within.items()))


def _change(name: str, measure: str, before: str | None, after: str | None) -> PriceChange:
    return PriceChange(name=name, measure=measure, before=before, after=after)
