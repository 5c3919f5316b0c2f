"""The merchant on the pay page, and what its policy lets a browser load."""

from __future__ import annotations

import base64
import hashlib
import html
import re

from shared.merchant_settings import MerchantSettings
from tests.fixtures.pay_pages import MERCHANT, all_pages


def test_each_page_shows_the_merchant_and_the_ways_on() -> None:
    for page in all_pages(MERCHANT):
        text = page.text or ""
        assert "<p>Northwind</p>" in text
        assert 'src="https://cdn.example.com:8443/logo.svg?a=1&amp;b=2"' in text
        assert '<a href="mailto:help@example.com">help@example.com</a>' in text
        assert (
            '<a href="https://app.example.com/billing?a=1&amp;b=2">Return to Northwind</a>' in text
        )
        assert " - Northwind</title>" in text
        assert "--accent: #ffee00; --on-accent: #000000" in text


def test_images_are_allowed_from_exactly_the_host_of_the_logo() -> None:
    for page in all_pages(MERCHANT):
        policy = page.headers["Content-Security-Policy"]
        assert re.findall("img-src ([^;]*);", policy) == ["https://cdn.example.com:8443"]
    for page in all_pages(MerchantSettings(name="Northwind")):
        assert "img-src" not in page.headers["Content-Security-Policy"]
        assert "<img" not in (page.text or "")


def test_the_policy_has_the_hash_of_the_style_with_the_color() -> None:
    for merchant in (MERCHANT, MerchantSettings()):
        for page in all_pages(merchant):
            (style,) = re.findall("<style>(.*)</style>", page.text or "", re.DOTALL)
            digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
            assert f"style-src 'sha256-{digest}'" in page.headers["Content-Security-Policy"]
            assert "style=" not in (page.text or "")


def test_without_a_merchant_the_page_has_no_empty_parts() -> None:
    for page in all_pages(MerchantSettings()):
        text = page.text or ""
        assert not re.search("<header|<footer|<img|None", text)


def test_a_hostile_name_of_the_merchant_is_text() -> None:
    merchant = MerchantSettings(name='"><script>alert(1)</script> $body ${style}')
    for page in all_pages(merchant):
        text = page.text or ""
        assert "<script" not in text
        assert str(merchant.name) in html.unescape(text)


def test_a_support_page_is_a_link_with_words() -> None:
    (page, *_) = all_pages(MerchantSettings(support="https://example.com/help"))
    assert '<a href="https://example.com/help">Get help</a>' in (page.text or "")
