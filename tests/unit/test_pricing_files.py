"""The written form of price books, and what is refused."""

from __future__ import annotations

import msgspec
import pytest

from shared.errors import ValidationError
from shared.pricing.files import digest, from_content, read, to_content, write_toml
from shared.pricing.model import PriceBook

BOOK = """
name = "default"
note = "Prices of November"
markup = "20%"

# input_tokens counts the cached ones too, as OpenAI reports them.
[within]
cached_input_tokens = ["input_tokens"]

[[prices]]
models = ["gpt-4o", "gpt-4o-2024-*"]
minimum = "0.0001"
[prices.measures]
input_tokens = "2.50 / 1M"
cached_input_tokens = "1.25 / 1M"
output_tokens = { by = "prompt", tiers = [
    { to = 200000, price = "10 / 1M" },
    { over = 200000, price = "15 / 1M" },
] }

[[prices]]
models = ["deepseek-chat"]
hours = ["16:30-00:30"]
markup = "0%"
[prices.measures]
input_tokens = "0.27 / 1M"
[prices.within]

[[prices]]
models = ["deepseek-chat"]
[prices.measures]
input_tokens = "0.54 / 1M"

[[prices]]
meters = ["transcription"]
[prices.measures]
seconds = { tiers = [
    { to = 3600, price = "0.36 / 3600" },
    { over = 3600, to = 36000, price = "0.30 / 3600" },
    { over = 36000, price = "0.25 / 3600" },
] }
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ValidationError) as refusal:
        read(text, toml=True)
    errors = refusal.value.errors
    if errors is None:
        return [refusal.value.detail]
    return [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in errors]


def one_price(*, measures: str = 'images = "1"', price: str = "", head: str = "") -> str:
    return f"""
name = "b"
{head}
[[prices]]
meters = ["m"]
{price}
[prices.measures]
{measures}
"""


def test_a_book_that_is_written_and_read_is_the_same() -> None:
    book = read(BOOK, toml=True)
    assert read(write_toml(book), toml=True) == book
    as_json = msgspec.json.encode(to_content(book))
    assert read(as_json.decode(), toml=False) == book
    content = msgspec.json.decode(as_json)
    assert from_content(content, version=0) == book
    assert digest(content) == digest(to_content(book))


def test_a_written_file_is_written_the_same_again() -> None:
    text = write_toml(read(BOOK, toml=True))
    assert write_toml(read(text, toml=True)) == text
    assert 'output_tokens = { by = "prompt", tiers = [\n    { price = "10 / 1M", to' in text


@pytest.mark.parametrize(
    "price",
    ["NaN", "Infinity", "1e400", "-1", "1.0000000000000000001", "1 / 7", "1/1M", "", "٣", "1e3"],
)
def test_a_price_is_plain_digits_with_at_most_18_decimals(price: str) -> None:
    (problem,) = problems(one_price(measures=f'images = "{price}"'))
    assert problem.startswith("prices.0.measures.images: Write a price as")


@pytest.mark.parametrize("price", ["nan", "inf", "1e400", "-1", "1.5", "1", "true", "[]"])
def test_a_price_that_is_no_text_is_refused(price: str) -> None:
    (problem,) = problems(one_price(measures=f"images = {price}"))
    assert "$.prices[0].measures" in problem


def test_a_price_has_a_bound() -> None:
    assert problems(one_price(measures='images = "1000000001"')) == [
        "prices.0.measures.images: A price is at most 1000000000"
    ]


@pytest.mark.parametrize(
    ("tiers", "problem"),
    [
        ("{ to = 10, X }, { over = 11, X }", "tiers.1: Hole: no tier prices what is over 10"),
        ("{ to = 10, X }, { over = 9, X }", "tiers.1: Overlap: the tier before it ends at 10"),
        ("{ X }, { over = 9, X }", "tiers.1: Overlap: the tier before it has no end"),
        ("{ over = 1, X }", "tiers.0: Hole: no tier prices what is over 0 up to 1"),
        ("{ to = 10, X }", "tiers: Hole: no tier prices what is over 10"),
        ("{ to = 0, X }, { over = 0, X }", "tiers.0: A tier ends after it begins"),
        ("", "tiers: 1 to 32 tiers"),
        ('{ to = 9, X }, { over = 9, price = "1" }', "tiers: The tiers of a measure have one unit"),
        ("{ to = 9, X }, { over = 9, to = 10000000000000000, X }, { over = 9, X }", "A tier ends"),
    ],
)
def test_tiers_cover_every_quantity_once(tiers: str, problem: str) -> None:
    text = tiers.replace("X", 'price = "1 / 1M"')
    found = problems(one_price(measures=f"images = {{ tiers = [{text}] }}"))
    assert any(problem in line for line in found), found


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (one_price(head='markup = "20"'), "markup: Write a percentage as 20%"),
        (one_price(head='markup = "-1%"'), "markup: Write a percentage"),
        (one_price(head='markup = "10001%"'), "markup: Write a percentage"),
        (one_price(head="prompt = []"), "prompt: 1 to 32 measures"),
        (one_price(price='minimum = "1e9"'), "prices.0.minimum: 0 to"),
        (one_price(price='minimum = "0.0000000001"'), "prices.0.minimum: 0 to"),
        (one_price(price='models = ["m"]'), "prices.0: Name either models or meters"),
        (one_price(price='hours = ["1:00-2:00"]'), "prices.0.hours: Write a part of the day"),
        (one_price(price='hours = ["01:00-01:00"]'), "prices.0.hours: Write a part of the day"),
        (one_price(price='hours = ["01:00-03:00", "02:00-04:00"]'), "parts of the day overlap"),
        (one_price(measures='Images = "1"'), "The name of a measure has 1 to 64"),
        (one_price(measures=""), "prices.0.measures: 1 to 32 measures"),
        (one_price(head="[within]\na = ['b']\nb = ['a']"), "within.a: a would be part of itself"),
        (one_price().replace('"m"', '"a b"'), "prices.0.meters: A name has 1 to 200"),
        (one_price().replace('"m"', '"a**"'), "prices.0.meters: At most 3 wildcards"),
        (one_price().replace('"m"', '"m", "M"'), "prices.0: It names a pattern twice"),
        (one_price().replace('"b"', '"B"'), "name: 1 to 64 lower-case letters"),
        ("name = 'b'\nprices = []", "prices: 1 to 10000 prices"),
        (one_price(head='extra = "1"'), "unknown field `extra`"),
        ("name = ", "This is no price book"),
        ("x = " + "[" * 9_999, "This is no price book"),
        ("x = " + "9" * 9_999, "This is no price book"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text: str, problem: str) -> None:
    found = problems(text)
    assert any(problem in line for line in found), found


def two_prices(first: str, second: str, *, more: str = "") -> str:
    return "\n".join(
        ['name = "b"']
        + [
            f'[[prices]]\nmodels = ["{pattern}"]\n{extra}\n[prices.measures]\nimages = "1"'
            for pattern, extra in ((first, ""), (second, more))
        ]
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("gpt-4o", "GPT-4o"),
        ("gpt-*", "gpt-*"),
        ("gpt-*", "gpt-*-mini"),
        ("*mini", "*o-mini"),
        ("a*b*c", "a*x*bc"),
        ("*", "*x*"),
    ],
)
def test_two_prices_for_one_name_are_ambiguous(first: str, second: str) -> None:
    (problem,) = problems(two_prices(first, second))
    assert problem.startswith("prices.1: ")


@pytest.mark.parametrize(
    ("first", "second"),
    [("gpt-*", "gpt-4*"), ("gpt-4o", "gpt-*"), ("*-mini", "*-nano"), ("a*b*c", "a*b*d")],
)
def test_patterns_that_are_ordered_or_disjoint_are_not(first: str, second: str) -> None:
    assert isinstance(read(two_prices(first, second), toml=True), PriceBook)


def test_prices_of_one_name_share_the_day() -> None:
    assert len(read(two_prices("m", "m", more='hours = ["22:00-06:00"]'), toml=True).prices) == 2
    text = two_prices("m", "m", more='hours = ["22:00-06:00"]')
    overlapping = text.replace('models = ["m"]\n\n', 'models = ["m"]\nhours = ["05:59-07:00"]\n')
    assert problems(overlapping) == ["prices.1: m has another price, in prices 0"]
