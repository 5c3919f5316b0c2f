"""Reading the written form of a price book, with everything that is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import time
from decimal import Decimal

from shared.errors import FieldError
from shared.pricing.ambiguity import ambiguities
from shared.pricing.forms import BookForm, PriceForm, RateForm
from shared.pricing.matching import WILDCARD
from shared.pricing.model import Hours, Price, PriceBook, Rate, Subject, Tier, TierBasis
from shared.pricing.rules import UNITS
from shared.pricing.usage_rules import (
    MEASURE,
    MEASURE_LENGTH_MAX,
    MEASURES_MAX,
    NAME_LENGTH_MAX,
    QUANTITY_MAX,
    containing,
)

BOOK_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
PRICES_MAX = 10_000
PATTERNS_MAX = 50
WILDCARDS_MAX = 3
WITHIN_MAX = 100
WHOLES_MAX = 8
LINES_MAX = 32
PRICE_DECIMALS_MAX = 18
PRICE_MAX = Decimal(10) ** 9
MINIMUM_DECIMALS_MAX = 9
MARKUP_MAX = Decimal(10_000)
PERCENT_MAX = Decimal(100)
NOTE_LENGTH_MAX = 2_000
HOURS_MAX = 8
PROBLEMS_MAX = 100
_PATTERN = re.compile(r"[\w.:/@+~?=*-]+", re.ASCII)
_PRICE = re.compile(r"(?P<price>\S+)(?: / (?P<unit>\S+))?")
_NUMBER = re.compile(rf"[0-9]{{1,10}}(?:\.[0-9]{{1,{PRICE_DECIMALS_MAX}}})?")
_PERCENT = re.compile(r"(?P<number>[0-9]{1,5}(?:\.[0-9]{1,4})?)%")
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)", re.ASCII)

Problem = FieldError
Place = tuple[str | int, ...]


class Reader:
    """Reads a form and collects its problems, at most 100, instead of stopping at the first."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def report(self, place: Place, message: str) -> None:
        """Add a problem at a place of the form."""
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append({"loc": [*place], "msg": message, "type": "value_error"})

    def book(self, form: BookForm) -> PriceBook:
        """Read a book; what has problems is read as something else."""
        if not BOOK_NAME.fullmatch(form.name):
            self.report(("name",), "1 to 64 lower-case letters, digits and . _ -")
        if form.note is not None and (len(form.note) > NOTE_LENGTH_MAX or "\0" in form.note):
            self.report(("note",), f"At most {NOTE_LENGTH_MAX} characters, and no NUL")
        if not 1 <= len(form.prices) <= PRICES_MAX:
            self.report(("prices",), f"1 to {PRICES_MAX} prices")
        if not 1 <= len(form.prompt) <= MEASURES_MAX or len(set(form.prompt)) < len(form.prompt):
            self.report(("prompt",), f"1 to {MEASURES_MAX} measures, each once")
        for name in form.prompt:
            self._measure(name, ("prompt",))
        book = PriceBook(
            name=form.name,
            note=form.note,
            markup=Decimal(0) if form.markup is None else self.percent(form.markup, ("markup",)),
            prompt=tuple(form.prompt),
            within=self._within(form.within, ("within",)),
            prices=tuple(
                self._price(price, ("prices", number))
                for number, price in enumerate(form.prices[:PRICES_MAX])
            ),
        )
        for number, message in ambiguities(book):
            self.report(("prices", number), message)
        return book

    def _price(self, form: PriceForm, place: Place) -> Price:
        subject = Subject.MODEL if form.models else Subject.METER
        patterns = form.models or form.meters
        if bool(form.models) == bool(form.meters):
            self.report(place, "Name either models or meters")
        if len(patterns) > PATTERNS_MAX:
            self.report(place, f"At most {PATTERNS_MAX} patterns")
        for pattern in patterns:
            self.pattern(pattern, (*place, f"{subject}s"))
        rates = self._rates(form.measures, (*place, "measures"))
        return Price(
            subject=subject,
            patterns=tuple(patterns),
            rates=rates,
            minimum=self._minimum(form.minimum, (*place, "minimum")),
            markup=(None if form.markup is None else self.percent(form.markup, (*place, "markup"))),
            within=None if form.within is None else self._within(form.within, (*place, "within")),
            hours=self._hours(form.hours, (*place, "hours")),
        )

    def pattern(self, pattern: str, place: Place) -> None:
        """Check a name or glob."""
        if not 1 <= len(pattern) <= NAME_LENGTH_MAX or not _PATTERN.fullmatch(pattern):
            self.report(
                place,
                f"A name has 1 to {NAME_LENGTH_MAX} letters, digits and . : / @ + ~ ? = _ - *",
            )
        if pattern.count(WILDCARD) > WILDCARDS_MAX or WILDCARD * 2 in pattern:
            self.report(place, f"At most {WILDCARDS_MAX} wildcards, and not beside each other")

    def _rates(self, forms: Mapping[str, str | RateForm], place: Place) -> dict[str, Rate]:
        if not 1 <= len(forms) <= MEASURES_MAX:
            self.report(place, f"1 to {MEASURES_MAX} measures")
        rates: dict[str, Rate] = {}
        for name, form in forms.items():
            self._measure(name, place)
            rates[name] = self._rate(form, (*place, name))
        lines = sum(len(r.tiers) if r.by is TierBasis.QUANTITY else 1 for r in rates.values())
        if lines > LINES_MAX:
            self.report(place, f"At most {LINES_MAX} tiers in all")
        return rates

    def _rate(self, form: str | RateForm, place: Place) -> Rate:
        if isinstance(form, str):
            price, per = self.price(form, place)
            return Rate(tiers=(Tier(price=price),), per=per)
        tiers: list[Tier] = []
        units: set[int] = set()
        for number, tier in enumerate(form.tiers):
            price, per = self.price(tier.price, (*place, "tiers", number))
            units.add(per)
            up_to = None if tier.to is None else Decimal(tier.to)
            tiers.append(Tier(price=price, over=Decimal(tier.over), up_to=up_to))
        if len(units) > 1:
            self.report((*place, "tiers"), "The tiers of a measure have one unit")
        self._check_tiers(tiers, (*place, "tiers"))
        return Rate(
            tiers=tuple(tiers) or (Tier(price=Decimal(0)),),
            per=next(iter(units), 1),
            by=TierBasis(form.by),
        )

    def _check_tiers(self, tiers: Sequence[Tier], place: Place) -> None:
        if not 1 <= len(tiers) <= LINES_MAX:
            self.report(place, f"1 to {LINES_MAX} tiers")
            return
        reached: Decimal | None = Decimal(0)
        for number, tier in enumerate(tiers):
            here = (*place, number)
            if reached is None:
                self.report(here, "Overlap: the tier before it has no end")
                return
            if tier.over > reached:
                self.report(here, f"Hole: no tier prices what is over {reached} up to {tier.over}")
            if tier.over < reached:
                self.report(here, f"Overlap: the tier before it ends at {reached}")
            if tier.up_to is not None and not tier.over < tier.up_to <= QUANTITY_MAX:
                self.report(here, f"A tier ends after it begins, at {QUANTITY_MAX:f} at most")
            reached = tier.up_to
        if reached is not None:
            self.report(place, f"Hole: no tier prices what is over {reached}")

    def price(self, text: str, place: Place) -> tuple[Decimal, int]:
        """Read a price such as 2.50 / 1M."""
        match = _PRICE.fullmatch(text)
        unit = (match["unit"] or "1") if match else "1"
        if match is None or not _NUMBER.fullmatch(match["price"]) or unit not in UNITS:
            units = ", ".join(UNITS)
            self.report(
                place,
                f"Write a price as 2.50 or 2.50 / 1M: digits, at most {PRICE_DECIMALS_MAX}"
                f" decimals; units: {units}",
            )
            return Decimal(0), 1
        price = Decimal(match["price"])
        if price > PRICE_MAX:
            self.report(place, f"A price is at most {PRICE_MAX:f}")
        return price, UNITS[unit]

    def percent(self, text: str, place: Place, *, maximum: Decimal = MARKUP_MAX) -> Decimal:
        """Read a percentage such as 20%."""
        match = _PERCENT.fullmatch(text)
        percent = Decimal(match["number"]) if match else None
        if percent is None or percent > maximum:
            self.report(place, f"Write a percentage as 20%: 0% to {maximum:f}%, at most 4 decimals")
            return Decimal(0)
        return percent

    def _minimum(self, text: str | None, place: Place) -> Decimal | None:
        if text is None:
            return None
        number = Decimal(text) if _NUMBER.fullmatch(text) else None
        decimals = len(text.partition(".")[2].rstrip("0"))
        if number is None or number > PRICE_MAX or decimals > MINIMUM_DECIMALS_MAX:
            self.report(
                place, f"0 to {PRICE_MAX:f} credits, at most {MINIMUM_DECIMALS_MAX} decimals"
            )
            return None
        return number

    def _within(
        self, form: Mapping[str, Sequence[str]], place: Place
    ) -> dict[str, tuple[str, ...]]:
        if len(form) > WITHIN_MAX or any(len(w) > WHOLES_MAX for w in form.values()):
            self.report(place, f"At most {WITHIN_MAX} measures, each in {WHOLES_MAX}")
            return {}
        within = {name: tuple(wholes) for name, wholes in form.items()}
        for name, wholes in within.items():
            for measure in (name, *wholes):
                self._measure(measure, (*place, name))
            if name in containing(name, within):
                self.report((*place, name), f"{name} would be part of itself")
        return within

    def _measure(self, name: str, place: Place) -> None:
        if len(name) > MEASURE_LENGTH_MAX or not MEASURE.fullmatch(name):
            self.report(
                place,
                f"The name of a measure has 1 to {MEASURE_LENGTH_MAX} lower-case letters, digits"
                " and _",
            )

    def _hours(self, texts: Sequence[str], place: Place) -> tuple[Hours, ...]:
        if len(texts) > HOURS_MAX:
            self.report(place, f"At most {HOURS_MAX} parts of the day")
        return tuple(self._read_each(texts[:HOURS_MAX], place, self._part))

    def _part(self, text: str) -> Hours | None:
        match = _HOURS.fullmatch(text)
        if match is None:
            return None
        start, end = time(int(match[1]), int(match[2])), time(int(match[3]), int(match[4]))
        return None if start == end else Hours(start=start, end=end)

    def _read_each(
        self, texts: Sequence[str], place: Place, read: Callable[[str], Hours | None]
    ) -> Iterator[Hours]:
        for text in texts:
            if part := read(text):
                yield part
            else:
                self.report(place, "Write a part of the day, in UTC, as 00:30-16:30")
