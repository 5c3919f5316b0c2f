"""The arithmetic of prices."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from shared.pricing.model import (
    Price,
    PriceBook,
    PricedUsage,
    PriceLine,
    PricingRefusal,
    Rate,
    Subject,
    Tier,
    TierBasis,
    UsageItem,
)
from shared.pricing.record import to_record
from shared.pricing.rules import price_item

WITHIN: dict[str, tuple[str, ...]] = {
    "cached_input_tokens": ("input_tokens",),
    "reasoning_tokens": ("output_tokens",),
}
MILLION = 1_000_000


def flat(price: str, per: int = 1) -> Rate:
    return Rate(tiers=(Tier(price=Decimal(price)),), per=per)


def model_price(**rates: Rate) -> Price:
    return Price(subject=Subject.MODEL, patterns=("m",), rates=rates)


def priced(price: Price, book: PriceBook | None = None, **measures: int | str) -> PricedUsage:
    result = outcome(price, book, **measures)
    assert isinstance(result, PricedUsage), result
    return result


def refused(price: Price, book: PriceBook | None = None, **measures: int | str) -> PricingRefusal:
    result = outcome(price, book, **measures)
    assert isinstance(result, PricingRefusal), result
    return result


def outcome(
    price: Price, book: PriceBook | None, **measures: int | str
) -> PricedUsage | PricingRefusal:
    item = UsageItem(model="m", measures={n: Decimal(q) for n, q in measures.items()})
    return price_item(item, price, book or PriceBook(name="b", prices=(price,), within=WITHIN))


def test_tokens_are_priced_per_million() -> None:
    price = model_price(input_tokens=flat("2.50", MILLION), output_tokens=flat("10", MILLION))
    result = priced(price, input_tokens=1_200, output_tokens=300)
    assert result.total == Decimal("0.006")
    assert result.lines[0] == PriceLine(
        measure="input_tokens",
        quantity=Decimal(1_200),
        unit_price=Decimal("2.50"),
        per=MILLION,
        amount=Decimal("0.003"),
    )


def test_cached_tokens_that_are_part_of_the_input_are_charged_once() -> None:
    price = model_price(
        input_tokens=flat("2.50", MILLION), cached_input_tokens=flat("1.25", MILLION)
    )
    result = priced(price, input_tokens=1_000_000, cached_input_tokens=400_000)
    assert [(line.measure, line.quantity) for line in result.lines] == [
        ("input_tokens", Decimal(600_000)),
        ("cached_input_tokens", Decimal(400_000)),
    ]
    assert result.total == Decimal(2)


def test_cached_tokens_beside_the_input_are_added_to_it() -> None:
    price = model_price(
        input_tokens=flat("2.50", MILLION), cached_input_tokens=flat("1.25", MILLION)
    )
    book = PriceBook(name="b", prices=(price,), within={})
    result = priced(price, book, input_tokens=1_000_000, cached_input_tokens=400_000)
    assert result.total == Decimal(3)


def test_a_part_without_a_price_costs_what_its_whole_costs() -> None:
    price = model_price(output_tokens=flat("10", MILLION))
    result = priced(price, output_tokens=1_000_000, reasoning_tokens=900_000)
    assert result.total == Decimal(10)
    assert result.measures["reasoning_tokens"] == 900_000


def test_a_part_of_two_measures_is_taken_from_both_and_counted_once() -> None:
    within: dict[str, tuple[str, ...]] = {
        "cached_audio_tokens": ("cached_input_tokens", "audio_tokens"),
        "cached_input_tokens": ("input_tokens",),
        "audio_tokens": ("input_tokens",),
    }
    rates = {
        name: flat(price)
        for name, price in (
            ("input_tokens", "1"),
            ("cached_input_tokens", "10"),
            ("audio_tokens", "100"),
            ("cached_audio_tokens", "1000"),
        )
    }
    price = Price(subject=Subject.MODEL, patterns=("m",), rates=rates, within=within)
    result = priced(
        price, input_tokens=10, cached_input_tokens=4, audio_tokens=5, cached_audio_tokens=2
    )
    assert {line.measure: int(line.quantity) for line in result.lines} == {
        "input_tokens": 3,
        "cached_input_tokens": 2,
        "audio_tokens": 3,
        "cached_audio_tokens": 2,
    }
    assert result.total == 3 + 20 + 300 + 2_000


def test_graduated_tiers_price_each_part_of_the_quantity() -> None:
    tiers = (
        Tier(price=Decimal("0.10"), up_to=Decimal(10)),
        Tier(price=Decimal("0.05"), over=Decimal(10)),
    )
    price = model_price(images=Rate(tiers=tiers))
    assert priced(price, images=10).total == Decimal(1)
    assert priced(price, images=14).total == Decimal("1.2")


def test_the_length_of_the_prompt_selects_one_tier_for_everything() -> None:
    def tiers(below: str, above: str) -> Rate:
        return Rate(
            by=TierBasis.PROMPT,
            per=MILLION,
            tiers=(
                Tier(price=Decimal(below), up_to=Decimal(200_000)),
                Tier(price=Decimal(above), over=Decimal(200_000)),
            ),
        )

    price = model_price(input_tokens=tiers("1", "2"), output_tokens=tiers("10", "15"))
    at_the_bound = priced(price, input_tokens=200_000, output_tokens=1_000)
    assert at_the_bound.total == Decimal("0.21")
    above = priced(price, input_tokens=200_001, output_tokens=1_000)
    assert above.total == Decimal("0.415002")
    book = PriceBook(name="b", prices=(price,), prompt=("input_tokens", "audio_tokens"))
    assert priced(price, book, input_tokens=200_000).total == Decimal("0.2")


@pytest.mark.parametrize(
    ("price", "total"),
    [("0.0000000005", "0.000000001"), ("0.00000000049999", "0"), ("0.0000000015", "0.000000002")],
)
def test_the_total_is_rounded_half_up_once(price: str, total: str) -> None:
    assert priced(model_price(seconds=flat(price)), seconds=1).total == Decimal(total)


def test_amounts_below_the_rounding_add_up_before_it() -> None:
    price = model_price(a=flat("0.0000000003"), b=flat("0.0000000003"))
    assert priced(price, a=1, b=1).total == Decimal("0.000000001")


def test_a_price_per_hour_is_exact_in_the_total() -> None:
    price = model_price(seconds=flat("1", 3600))
    result = priced(price, seconds="1")
    assert result.lines[0].amount == Decimal("0.000277777777777778")
    assert priced(price, seconds=3600).total == 1


def test_markup_then_discount_then_minimum() -> None:
    price = Price(
        subject=Subject.MODEL,
        patterns=("m",),
        rates={"images": flat("1")},
        minimum=Decimal("1.5"),
    )
    book = PriceBook(name="b", prices=(price,), markup=Decimal(20))
    item = UsageItem(model="m", measures={"images": Decimal(2)})
    with_discount = price_item(item, price, book, discount=Decimal(25))
    assert isinstance(with_discount, PricedUsage)
    assert with_discount.total == Decimal("1.8")
    assert (with_discount.discount, with_discount.minimum) == (Decimal(25), Decimal("1.5"))
    assert priced(price, book, images=1).total == Decimal("1.5")
    assert priced(price, book, images=0).total == 0


def test_requests_with_a_price_count_as_one_by_default() -> None:
    price = model_price(requests=flat("5", 1_000), input_tokens=flat("1", MILLION))
    assert priced(price, input_tokens=0).total == Decimal("0.005")
    assert priced(price, input_tokens=0, requests=3).total == Decimal("0.015")


def test_a_measure_without_a_price_is_refused_with_its_location() -> None:
    refusal = refused(model_price(input_tokens=flat("1")), input_tokens=1, seconds=3)
    assert refusal.location == ("measures", "seconds")
    assert refusal.type == "unknown_measure"
    price = model_price(output_tokens=flat("1"), input_tokens=flat("1"))
    named = "m has no price for seconds; it has for: input_tokens, output_tokens"
    assert refused(price, input_tokens=1, seconds=3).message == named


@pytest.mark.parametrize(
    ("measures", "location", "message"),
    [
        ({"input_tokens": "-1"}, ("measures", "input_tokens"), "negative"),
        ({"input_tokens": "1.5"}, ("measures", "input_tokens"), "whole"),
        ({"input_tokens": "1e18"}, ("measures", "input_tokens"), "at most 1000000000000000"),
        ({"input_tokens": "1e999999999"}, ("measures", "input_tokens"), "at most"),
        ({"seconds": "1e-999999999"}, ("measures", "seconds"), "decimals"),
        ({"seconds": "0.0000000001"}, ("measures", "seconds"), "decimals"),
        ({"input_tokens": "NaN"}, ("measures", "input_tokens"), "finite"),
        ({"input_tokens": "Infinity"}, ("measures", "input_tokens"), "finite"),
        ({"Input": "1"}, ("measures", "Input"), "lower-case"),
        ({}, ("measures",), "1 to 32"),
        (
            {"input_tokens": "1", "cached_input_tokens": "2"},
            ("measures", "cached_input_tokens"),
            "part of input_tokens",
        ),
    ],
)
def test_bad_measures_are_refused(
    measures: dict[str, str], location: tuple[str, ...], message: str
) -> None:
    price = model_price(input_tokens=flat("1"), seconds=flat("1"), cached_input_tokens=flat("1"))
    refusal = refused(price, None, **measures)
    assert refusal.location == location
    assert message in refusal.message


def test_parts_that_together_exceed_the_whole_are_refused() -> None:
    within: dict[str, tuple[str, ...]] = {
        "a_tokens": ("input_tokens",),
        "b_tokens": ("input_tokens",),
    }
    price = model_price(input_tokens=flat("1"), a_tokens=flat("1"), b_tokens=flat("1"))
    book = PriceBook(name="b", prices=(price,), within=within)
    refusal = refused(price, book, input_tokens=3, a_tokens=2, b_tokens=2)
    assert refusal.location == ("measures", "input_tokens")
    assert refusal.message == "The parts of input_tokens exceed it by 1"


@pytest.mark.parametrize(
    ("measures", "whole"), [({}, "0"), ({"input_tokens": 0}, "0"), ({"input_tokens": 1}, "1")]
)
def test_a_part_cannot_exceed_its_whole_even_if_nobody_named_that(
    measures: dict[str, int], whole: str
) -> None:
    price = model_price(input_tokens=flat("1"), cached_input_tokens=flat("1"))
    refusal = refused(price, None, cached_input_tokens=int(whole) + 1, **measures)
    assert refusal.message == (
        f"cached_input_tokens ({int(whole) + 1}) is part of input_tokens ({whole}) and cannot"
        " exceed it"
    )


def test_a_part_cannot_exceed_its_whole_where_only_the_part_has_a_price() -> None:
    price = model_price(cached_input_tokens=flat("1"))
    refusal = refused(price, input_tokens=0, cached_input_tokens=1)
    assert "part of input_tokens (0)" in refusal.message


def test_a_measure_that_has_a_price_and_is_not_used_costs_nothing() -> None:
    price = model_price(input_tokens=flat("1"), output_tokens=flat("7"))
    assert priced(price, input_tokens=3).total == 3


def test_a_sum_of_more_digits_than_decimals_have_by_default_is_not_rounded_on_its_way() -> None:
    price = model_price(a=flat("1"), b=flat(f"0.4{80 * '9'}"))
    total = priced(price, a=999_999_999_999_999, b="0.000000001").total
    assert total == 999_999_999_999_999  # and less than half a billionth


@pytest.mark.parametrize("names", [{}, {"model": "a", "meter": "b"}, {"model": "a b"}])
def test_an_item_names_one_model_or_meter(names: dict[str, str]) -> None:
    price = model_price(images=flat("1"))
    item = UsageItem(
        model=names.get("model"), meter=names.get("meter"), measures={"images": Decimal(1)}
    )
    result = price_item(item, price, PriceBook(name="b", prices=(price,)))
    assert isinstance(result, PricingRefusal)


def test_the_markup_of_a_price_replaces_that_of_its_book() -> None:
    price = msgspec.structs.replace(model_price(images=flat("1")), markup=Decimal(50))
    book = PriceBook(name="b", prices=(price,), markup=Decimal(20))
    assert priced(price, book, images=2).total == 3


def test_a_price_beyond_the_largest_amount_is_refused() -> None:
    price = model_price(units=flat("1000000000"))
    assert priced(price, units=10**9).total == 10**18
    assert refused(price, units=10**9 + 1) == PricingRefusal(
        location=("measures",),
        message="The price of 1000000001000000000 credits is more than 1000000000000000000",
    )


def test_the_record_holds_every_number_as_exact_text() -> None:
    price = model_price(input_tokens=flat("2.50", MILLION))
    book = PriceBook(name="b", prices=(price,), version=3, markup=Decimal(20))
    assert to_record(priced(price, book, input_tokens=1_000)) == {
        "book": "b",
        "version": 3,
        "model": "m",
        "measures": {"input_tokens": "1000"},
        "lines": [
            {
                "measure": "input_tokens",
                "quantity": "1000",
                "unitPrice": "2.5",
                "per": 1_000_000,
                "amount": "0.0025",
            }
        ],
        "markup": "20",
        "total": "0.003",
    }
