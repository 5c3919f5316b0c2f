"""Books made from genai-prices, against that package's own calculation."""

from __future__ import annotations

import decimal
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache

import pytest
from genai_prices import types
from genai_prices.data import providers
from genai_prices.data_units import unit_data
from genai_prices.units import UnitRegistry

from shared.errors import ValidationError
from shared.money import CREDIT_QUANTUM
from shared.pricing.files import from_form
from shared.pricing.forms import book_form
from shared.pricing.genai_prices import Import, Skipped, Wish, import_books, measure
from shared.pricing.matching import PriceIndex
from shared.pricing.model import PricedUsage, Subject, UsageItem
from shared.pricing.rules import price_item
from tests.fixtures.profile import cases

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
UNITS = UnitRegistry(unit_data)
INPUT = "input_tokens"
# Of each part: nothing, little, and more than every bound of a tier in the data.
QUANTITIES = (0, 7, 1_234, 300_001)[:: cases(quick=3, thorough=1)]


@cache
def imported() -> Import:
    return import_books(Wish(name="genai"), now=NOW)


def usages(prices: types.ModelPrice) -> Iterator[dict[str, int]]:
    """Yield usages of the measures that have prices, each whole with its parts in it."""
    priced = {
        unit.usage_key: unit
        for key, value in vars(prices).items()
        if value is not None and (unit := UNITS.unit_for_price_key(key)).usage_key != "requests"
    }
    wholes = priced | ({INPUT: UNITS.units[INPUT]} if tiered(prices) else {})
    for quantity in QUANTITIES:
        parts = {key: quantity and quantity + number for number, key in enumerate(priced)}
        yield {
            key: sum(
                amount
                for part, amount in parts.items()
                if whole.dimensions.items() <= priced[part].dimensions.items()
            )
            for key, whole in wholes.items()
        }


def tiered(prices: types.ModelPrice) -> bool:
    return any(isinstance(value, types.TieredPrices) for value in vars(prices).values())


def check(
    index: PriceIndex,
    name: str,
    model: types.ModelInfo,
    at: datetime,
    context: Mapping[str, str],
) -> int:
    """Compare each usage of a model at a moment; return how many there were."""
    name += "".join(f"?{key}={value}" for key, value in context.items())
    prices = model.get_prices(at, context)
    price = index.find(Subject.MODEL, name, at)
    assert price is not None, name
    count = 0
    for usage in usages(prices):
        theirs = prices.calc_price(types.Usage(**usage))["total_price"]
        measures = {measure(key): Decimal(quantity) for key, quantity in usage.items()}
        item = UsageItem(model=name, measures=measures or {"requests": Decimal(1)})
        ours = price_item(item, price, index.book)
        assert isinstance(ours, PricedUsage), (name, ours)
        rounded = theirs.quantize(CREDIT_QUANTUM, rounding=decimal.ROUND_HALF_UP)
        assert ours.total == rounded, (name, at, usage)
        count += 1
    return count


def moments(model: types.ModelInfo) -> Iterator[tuple[PriceIndex, datetime]]:
    """Yield books with a moment at which each is valid: where prices depend on it, several."""
    conditions = [c.constraint for c in model.prices] if isinstance(model.prices, list) else []
    dated = conditions or model.price_variants
    hours = any(isinstance(c, types.TimeOfDateConstraint) for c in conditions)
    for begins, index in indexes() if dated else indexes()[:1]:
        for hour in (0, 2, 8, 13) if hours else (0,):
            yield index, begins + timedelta(hours=hour, minutes=31)


@cache
def indexes() -> list[tuple[datetime, PriceIndex]]:
    books = imported().books
    return [(dated.active_from or NOW, PriceIndex(dated.book)) for dated in books]


def contexts(model: types.ModelInfo, at: datetime) -> Iterator[dict[str, str]]:
    yield {}
    seen: list[dict[str, str]] = []
    for variant in model.price_variants or ():
        valid = variant.constraint is None or variant.constraint.active(at)
        if valid and variant.when not in seen:
            seen.append(variant.when)
            yield variant.when


def test_every_model_costs_what_the_package_calculates() -> None:
    checked = {
        (provider.id, model.id): sum(
            check(index, f"{provider.id}/{model.id}", model, at, context)
            for index, at in moments(model)
            for context in contexts(model, at)
        )
        for provider in providers
        for model in provider.models
        if f"{provider.id}/{model.id}" not in unpriced()
    }
    assert len(checked) + len(unpriced()) == sum(len(provider.models) for provider in providers)
    assert min(checked.values()) >= len(QUANTITIES)


def test_a_model_without_a_price_is_not_free() -> None:
    index = PriceIndex(imported().books[0].book)
    for provider in providers:
        for model in provider.models:
            name = f"{provider.id}/{model.id}"
            free = not any(v is not None for v in vars(model.get_prices(NOW)).values())
            assert free is (name in unpriced())
            assert (index.find(Subject.MODEL, name, NOW) is None) is free


@cache
def unpriced() -> frozenset[str]:
    return frozenset(s.name for s in imported().skipped if s.reason == "has no price")


def test_every_imported_book_is_valid() -> None:
    for dated in imported().books:
        assert from_form(book_form(dated.book)) == dated.book


def test_a_date_at_which_prices_change_is_a_version() -> None:
    moments = [dated.active_from for dated in imported().books]
    assert moments[0] is None
    assert moments[1:] == sorted({moment for moment in moments if moment is not None})
    assert all(moment > NOW for moment in moments[1:] if moment is not None)


def test_what_a_book_cannot_express_is_reported_by_name() -> None:
    skipped = imported().skipped
    kinds = {entry.reason.split(" under ")[0].split(" a model ")[0] for entry in skipped}
    assert kinds == {"has no price", "is not imported", "names"}
    for provider in providers:
        for model in provider.models:
            alternatives = (
                model.match.or_ if isinstance(model.match, types.ClauseOr) else [model.match]
            )
            for clause in alternatives:
                if not isinstance(clause, types.ClauseEquals | types.ClauseStartsWith):
                    reason = f"is not imported under the names of {clause}"
                    assert Skipped(f"{provider.id}/{model.id}", reason) in skipped


@pytest.mark.parametrize("provider_id", ["openai", "anthropic", "google", "mistral"])
def test_a_maker_s_models_are_found_by_the_names_that_the_package_knows(provider_id: str) -> None:
    index = PriceIndex(imported().books[0].book)
    provider = next(p for p in providers if p.id == provider_id)
    for model in provider.models:
        clauses = model.match.or_ if isinstance(model.match, types.ClauseOr) else [model.match]
        for clause in clauses:
            if isinstance(clause, types.ClauseEquals):
                theirs = provider.find_model(clause.equals)
                assert theirs is not None
                if f"{provider_id}/{theirs.id}" in unpriced():
                    continue
                ours = index.find(Subject.MODEL, f"{provider_id}/{clause.equals}", NOW)
                assert ours is not None
                assert f"{provider_id}/{theirs.id}" in ours.patterns, clause


def test_markup_and_rate_apply_to_a_selected_provider() -> None:
    wish = Wish(name="b", markup=Decimal(20), credits_per_dollar=Decimal(100), providers=["openai"])
    book = import_books(wish, now=NOW).books[0].book
    assert book.markup == 20
    price = PriceIndex(book).find(Subject.MODEL, "gpt-4o", NOW)
    assert price is not None
    assert price.rates["input_tokens"].tiers[0].price == Decimal(250)
    assert PriceIndex(book).find(Subject.MODEL, "mistral/mistral-small-latest", NOW) is None


def test_an_unknown_provider_is_refused() -> None:
    with pytest.raises(ValidationError, match="no provider 'opennai'"):
        import_books(Wish(name="b", providers=["opennai"]), now=NOW)
