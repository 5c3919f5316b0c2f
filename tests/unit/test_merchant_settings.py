"""The merchant's settings, and the contrast of its color."""

from __future__ import annotations

import pytest

from api.pay.colors import BLACK, WHITE, contrast, text_on
from shared.config import load
from shared.errors import ConfigError
from shared.merchant_settings import MerchantSettings
from tests.fixtures.product import environment

ENV = environment("postgresql://u:dbpass@localhost/x", "redis://:redispass@localhost/0")
CONTRAST_MIN = 4.5  # WCAG 2.2, criterion 1.4.3


def test_without_variables_there_is_no_merchant() -> None:
    assert load(ENV).merchant == MerchantSettings()


def test_the_merchant_is_read_from_its_variables() -> None:
    changes = {
        "PREPAID_MERCHANT_NAME": " Café <Nord> & Söhne ",
        "PREPAID_MERCHANT_LOGO": "https://cdn.example.com:8443/logo.svg?v=1",
        "PREPAID_MERCHANT_COLOUR": "#4338CA",
        "PREPAID_MERCHANT_SUPPORT": "help+billing@example.com",
        "PREPAID_MERCHANT_RETURN_URL": "https://app.example.com/billing",
    }
    assert load(ENV | changes).merchant == MerchantSettings(
        name="Café <Nord> & Söhne",
        logo="https://cdn.example.com:8443/logo.svg?v=1",
        colour="#4338ca",
        support="help+billing@example.com",
        return_url="https://app.example.com/billing",
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("NAME", "x" * 81),
        ("NAME", "two\nlines"),
        ("NAME", "right to left \u202e"),
        ("LOGO", "http://cdn.example.com/logo.svg"),
        ("LOGO", "data:image/svg+xml,x"),
        ("LOGO", "https:///logo.svg"),
        ("LOGO", "https://*/logo.svg"),
        ("LOGO", "https://cdn.example.com;script-src/logo.svg"),
        ("LOGO", "https://cdn.example.com:x/logo.svg"),
        ("LOGO", "https://user@cdn.example.com/logo.svg"),
        ("LOGO", 'https://cdn.example.com/"onload=alert(1)'),
        ("LOGO", "https://cdn.example.com/" + "x" * 2000),
        ("COLOUR", "blue"),
        ("COLOUR", "#fff"),
        ("COLOUR", "#12345g"),
        ("COLOUR", "#123456; } body { display: none"),
        ("SUPPORT", "javascript:alert(1)"),
        ("SUPPORT", "help@localhost"),
        ("SUPPORT", "help@example.com?bcc=x@example.com"),
        ("SUPPORT", "http://example.com/help"),
        ("RETURN_URL", "javascript:alert(1)"),
        ("RETURN_URL", "/billing"),
    ],
)
def test_a_wrong_value_is_refused_with_one_line_that_names_the_mend(
    variable: str, value: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        load(ENV | {f"PREPAID_MERCHANT_{variable}": value})
    assert raised.value.variable == f"PREPAID_MERCHANT_{variable}"
    assert "Set it to" in raised.value.detail
    assert "\n" not in raised.value.detail


@pytest.mark.parametrize(
    ("color", "ratio"), [("#ffffff", 1.0), ("#000000", 21.0), ("#767676", 4.54), ("#ff0000", 4.0)]
)
def test_contrast_to_white_is_what_wcag_says(color: str, ratio: float) -> None:
    assert contrast(color, WHITE) == pytest.approx(ratio, abs=0.005)
    assert contrast(WHITE, color) == contrast(color, WHITE)


def test_text_on_any_color_is_readable() -> None:
    steps = range(0, 256, 15)
    for color in (
        f"#{red:02x}{green:02x}{blue:02x}" for red in steps for green in steps for blue in steps
    ):
        assert contrast(text_on(color), color) >= CONTRAST_MIN, color
    assert (text_on("#ffee00"), text_on("#1e1b4b")) == (BLACK, WHITE)
