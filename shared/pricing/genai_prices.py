"""Price books from the package genai-prices, which is an extra: prepaid[prices].

It lists the providers' prices in US dollars: https://github.com/pydantic/genai-prices. A model is
named provider/id, those of its makers also without the provider, and a variant of its prices
provider/id?processing=batch. What a book cannot express is reported by name, and never dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal

from genai_prices import types
from genai_prices.data import providers as bundled
from genai_prices.data_units import unit_data
from genai_prices.units import UnitDef, UnitRegistry
from msgspec.structs import replace

from shared.errors import ValidationError
from shared.pricing.ambiguity import overlap
from shared.pricing.genai_names import Names
from shared.pricing.model import Hours, Price, PriceBook, Rate, Subject, Tier, TierBasis
from shared.pricing.rules import EXACT, UNITS
from shared.pricing.validation import PRICE_DECIMALS_MAX, PRICE_MAX, WITHIN_MAX

# Our names for measures that the package names otherwise.
RENAMED = {
    "cache_read_tokens": "cached_input_tokens",
    "output_reasoning_tokens": "reasoning_tokens",
}
_Prices = Mapping[str, Decimal | types.TieredPrices]


@dataclass(frozen=True, slots=True)
class Skipped:
    """What a book does not have, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class DatedBook:
    """A book, and the moment from which its prices are valid; None: now."""

    active_from: datetime | None
    book: PriceBook


@dataclass(slots=True)
class Import:
    """The books of an import, a version for each date at which prices change, and the rest."""

    books: list[DatedBook] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Wish:
    """What to import: `credits_per_dollar` converts the prices, `providers` selects some."""

    name: str
    markup: Decimal = Decimal(0)
    credits_per_dollar: Decimal = Decimal(1)
    providers: Sequence[str] = ()


def import_books(
    wish: Wish, *, now: datetime, providers: Sequence[types.Provider] = bundled
) -> Import:
    """Return the books of the package's data: of now, and of each later date that it knows."""
    known = {provider.id for provider in providers}
    if unknown := [name for name in wish.providers if name not in known]:
        raise ValidationError(
            f"genai-prices has no provider {unknown[0]!r}. It has: {', '.join(sorted(known))}."
        )
    selected = [p for p in providers if not wish.providers or p.id in wish.providers]
    return _Importer(wish, selected).run(now)


class _Unpriced(Exception):  # noqa: N818 - reported, and no error
    """Why a book cannot express a price."""


class _Importer:
    def __init__(self, wish: Wish, providers: Sequence[types.Provider]) -> None:
        self._wish = wish
        self._providers = providers
        self._registry = UnitRegistry(unit_data)
        self._names = Names(providers, first=wish.providers)
        self._skipped: dict[Skipped, None] = {}

    def run(self, now: datetime) -> Import:
        books = [DatedBook(None, self._book(now))]
        for day in sorted({*self._dates()}):
            begins = datetime.combine(day, time(), tzinfo=UTC)
            if begins > now:
                books.append(DatedBook(begins, self._book(begins)))
        skipped = [Skipped(name, reason) for name, reason in self._names.skipped]
        return Import(books=books, skipped=[*skipped, *self._skipped])

    def _dates(self) -> Iterator[date]:
        """Yield the dates at which prices change."""
        for model in (model for provider in self._providers for model in provider.models):
            for dated in (*_conditional(model), *(model.price_variants or ())):
                if isinstance(dated.constraint, types.StartDateConstraint):
                    yield dated.constraint.start_date

    def _book(self, at: datetime) -> PriceBook:
        prices = [
            price
            for provider in self._providers
            for model in provider.models
            for price in self._prices_of(provider, model, at)
        ]
        return PriceBook(
            name=self._wish.name,
            prices=tuple(prices),
            markup=self._wish.markup,
            within=_within([*self._registry.units.values()]),
        )

    def _prices_of(
        self, provider: types.Provider, model: types.ModelInfo, at: datetime
    ) -> Iterator[Price]:
        contexts: list[dict[str, str]] = [{}]
        for variant in model.price_variants or ():
            if variant.when not in contexts:
                contexts.append(variant.when)
        for context in contexts:
            patterns = self._names.patterns(provider, model, context)
            try:
                yield from self._prices_in(model, context, patterns, at)
            except _Unpriced as reason:
                name = patterns[0] if patterns else f"{provider.id}/{model.id}"
                self._skipped[Skipped(name, str(reason))] = None

    def _prices_in(
        self, model: types.ModelInfo, context: dict[str, str], patterns: list[str], at: datetime
    ) -> list[Price]:
        if not patterns:
            return []  # reported with the names
        standard, parts = _valid(model, at)
        overrides = _overrides(model, context, at)
        if overrides is None:
            return []  # a variant that begins at a later date
        always = Price(
            subject=Subject.MODEL,
            patterns=tuple(patterns),
            rates=self._rates({**standard, **overrides}),
        )
        return [
            always,
            *(
                replace(always, hours=hours, rates=self._rates({**prices, **overrides}))
                for hours, prices in parts
            ),
        ]

    def _rates(self, prices: _Prices) -> dict[str, Rate]:
        rates: dict[str, Rate] = {}
        for key, price in prices.items():
            try:
                unit = self._registry.unit_for_price_key(key)
            except KeyError:
                raise _Unpriced(f"has a price for {key}, which no unit defines") from None
            rates[measure(unit.usage_key)] = self._rate(price, unit.per)
        if not rates:
            raise _Unpriced("has no price")
        return rates

    def _rate(self, price: Decimal | types.TieredPrices, per: int) -> Rate:
        if per not in UNITS.values():
            raise _Unpriced(f"has a price per {per} units")
        if not isinstance(price, types.TieredPrices):
            return Rate(tiers=(Tier(price=self._credits(price)),), per=per)
        starts = [tier.start for tier in price.tiers]
        if not starts or starts[0] <= 0 or len(set(starts)) < len(starts):
            raise _Unpriced(f"has tiers that begin at {starts}")
        tiers = [
            Tier(
                price=self._credits(amount),
                over=Decimal(over),
                up_to=None if end is None else Decimal(end),
            )
            for amount, over, end in zip(
                [price.base, *(tier.price for tier in price.tiers)],
                [0, *starts],
                [*starts, None],
                strict=True,
            )
        ]
        return Rate(tiers=tuple(tiers), per=per, by=TierBasis.PROMPT)

    def _credits(self, dollars: Decimal) -> Decimal:
        price = EXACT.multiply(dollars, self._wish.credits_per_dollar)
        decimals = len(f"{price:f}".partition(".")[2].rstrip("0"))
        if not 0 <= price <= PRICE_MAX or decimals > PRICE_DECIMALS_MAX:
            raise _Unpriced(f"has the price {price:f}: at most {PRICE_DECIMALS_MAX} decimals")
        return price


def measure(usage_key: str) -> str:
    """Return our name of one of the package's measures."""
    return RENAMED.get(usage_key, usage_key)


def _conditional(model: types.ModelInfo) -> list[types.ConditionalPrice]:
    if isinstance(model.prices, list):
        return model.prices
    return [types.ConditionalPrice(prices=model.prices)]


def _items(prices: types.ModelPrice) -> _Prices:
    return {
        key: value
        for key, value in vars(prices).items()
        if value is not None and not key.startswith("_")
    }


def _valid(
    model: types.ModelInfo, at: datetime
) -> tuple[_Prices, list[tuple[tuple[Hours, ...], _Prices]]]:
    """Return the prices that are valid on a day, and those of parts of it.

    The last that is valid counts; where none is, the first does.
    """
    prices = _conditional(model)
    if not prices:
        raise _Unpriced("has no price")
    parts: list[tuple[tuple[Hours, ...], _Prices]] = []
    for conditional in reversed(prices):
        constraint = conditional.constraint
        if isinstance(constraint, types.TimeOfDateConstraint):
            hours = (_hours(constraint),)
            if any(overlap(hours, others) for others, _ in parts):
                raise _Unpriced("has two prices for one part of the day")
            parts.append((hours, _items(conditional.prices)))
        elif constraint is None or constraint.active(at):
            return _items(conditional.prices), parts
    return _items(prices[0].prices), parts


def _overrides(model: types.ModelInfo, context: Mapping[str, str], at: datetime) -> _Prices | None:
    """Return the prices that a context replaces, the first variant's; None: none is valid yet."""
    if not context:
        return {}
    overrides: dict[str, Decimal | types.TieredPrices] = {}
    valid = False
    for variant in model.price_variants or ():
        if any(context.get(key) != value for key, value in variant.when.items()):
            continue
        if isinstance(variant.constraint, types.TimeOfDateConstraint):
            raise _Unpriced("has a variant for a part of the day")
        if variant.constraint is None or variant.constraint.active(at):
            valid = True
            for key, value in _items(variant.prices).items():
                overrides.setdefault(key, value)
    return overrides if valid else None


def _hours(constraint: types.TimeOfDateConstraint) -> Hours:
    start, end = (_utc(moment) for moment in (constraint.start_time, constraint.end_time))
    if start.second or end.second or start == end:
        raise _Unpriced(f"has a price from {start} to {end}")
    return Hours(start=start, end=end)


def _utc(moment: time) -> time:
    if moment.tzinfo is None:
        return moment
    return datetime.combine(date(1970, 1, 2), moment).astimezone(UTC).time()


def _within(units: Iterable[UnitDef]) -> dict[str, tuple[str, ...]]:
    """Return for each measure those that it is directly part of.

    A measure is part of another that has a part of its dimensions, such as cached input of input.
    """
    units = [*units]
    within: dict[str, tuple[str, ...]] = {}
    for unit in units:
        wholes = [w for w in units if w is not unit and _part_of(unit, w)]
        direct = [w for w in wholes if not any(_part_of(o, w) for o in wholes if o is not w)]
        if direct:
            within[measure(unit.usage_key)] = tuple(measure(whole.usage_key) for whole in direct)
    if len(within) > WITHIN_MAX:
        raise ValidationError(f"genai-prices has more than {WITHIN_MAX} measures with parts.")
    return within


def _part_of(part: UnitDef, whole: UnitDef) -> bool:
    return whole.dimensions.items() < part.dimensions.items()
