"""Renders the templates of the pay page, with the merchant's style and the page's policy."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jinja2
from aiohttp import web

from api.pay.colors import text_on
from shared.counts import counted
from shared.http.templates import create_environment
from shared.merchant_settings import MerchantSettings
from shared.money import format_money, plain

FOLDER = Path(__file__).parent
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What all pages of a merchant share. `style_digest` and `image_origin` go into the policy."""

    style: str
    style_digest: str
    image_origin: str | None


def respond(
    merchant: MerchantSettings, template: str, *, status: int, forms_to: str, **values: Any
) -> web.Response:
    """Return a page of a template; its form may post to `forms_to`."""
    layout = _layout(merchant)
    images = f"img-src {layout.image_origin}; " if layout.image_origin else ""
    # form-action also applies to the redirect after the form is posted.
    policy = (
        f"default-src 'none'; style-src 'sha256-{layout.style_digest}'; {images}base-uri 'none'; "
        f"frame-ancestors 'none'; form-action 'self' {forms_to}"
    )
    page = _environment().get_template(template)
    return web.Response(
        text=page.render(merchant=merchant, style=layout.style, **values),
        status=status,
        content_type="text/html",
        headers={**_HEADERS, "Content-Security-Policy": policy.strip()},
    )


def in_credits(number: Decimal) -> str:
    """Return a number of credits with its unit."""
    return counted(number, "credit")


@cache
def _environment() -> jinja2.Environment:
    environment = create_environment(FOLDER / "templates")
    environment.filters |= {"in_credits": in_credits, "money": format_money, "plain": plain}
    return environment


@cache
def _layout(merchant: MerchantSettings) -> Layout:
    style = (FOLDER / "pay.css").read_text(encoding="utf-8") + _accent(merchant)
    return Layout(
        style=style,
        style_digest=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        image_origin=_origin(merchant.logo) if merchant.logo else None,
    )


def _accent(merchant: MerchantSettings) -> str:
    """Return the rule with the merchant's color, the same on light and dark pages."""
    if merchant.colour is None:
        return ""
    return f":root {{ --accent: {merchant.colour}; --on-accent: {text_on(merchant.colour)} }}\n"


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
