"""The frame of the pay page: the merchant's header and footer, the style and the page's policy."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from urllib.parse import urlsplit

from aiohttp import web

from api.pay.colors import text_on
from shared.merchant_settings import MerchantSettings

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

    template: Template
    style: str
    style_digest: str
    image_origin: str | None
    header: str
    footer: str


def respond(
    merchant: MerchantSettings, title: str, body: str, status: int = 200, *, forms_to: str = ""
) -> web.Response:
    """Return a page. `body` is HTML, `title` is text; its form may post to `forms_to`."""
    layout = _layout(merchant)
    images = f"img-src {layout.image_origin}; " if layout.image_origin else ""
    # form-action also applies to the redirect after the form is posted.
    policy = (
        f"default-src 'none'; style-src 'sha256-{layout.style_digest}'; {images}base-uri 'none'; "
        f"frame-ancestors 'none'; form-action 'self' {forms_to}"
    )
    if merchant.name:
        title = f"{title} - {merchant.name}"
    return web.Response(
        text=layout.template.substitute(
            title=escape(title),
            style=layout.style,
            header=layout.header,
            body=body,
            footer=layout.footer,
        ),
        status=status,
        content_type="text/html",
        headers={**_HEADERS, "Content-Security-Policy": policy.strip()},
    )


@cache
def _layout(merchant: MerchantSettings) -> Layout:
    folder = files("api.pay")
    style = folder.joinpath("pay.css").read_text(encoding="utf-8") + _accent(merchant)
    return Layout(
        template=Template(folder.joinpath("pay.html").read_text(encoding="utf-8")),
        style=style,
        style_digest=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        image_origin=_origin(merchant.logo) if merchant.logo else None,
        header=_header(merchant),
        footer=_footer(merchant),
    )


def _accent(merchant: MerchantSettings) -> str:
    """Return the rule with the merchant's color, the same on light and dark pages."""
    if merchant.colour is None:
        return ""
    return f":root {{ --accent: {merchant.colour}; --on-accent: {text_on(merchant.colour)} }}\n"


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _header(merchant: MerchantSettings) -> str:
    """Return the logo and the name. The logo is decoration beside a name, and empty without one."""
    parts = []
    if merchant.logo:
        logo = escape(merchant.logo, quote=True)
        parts.append(f'<img class="logo" src="{logo}" alt="" height="40">')
    if merchant.name:
        parts.append(f"<p>{escape(merchant.name)}</p>")
    return f"<header>{''.join(parts)}</header>" if parts else ""


def _footer(merchant: MerchantSettings) -> str:
    lines = []
    if merchant.support:
        is_url = merchant.support.startswith("https://")
        href = escape(merchant.support if is_url else f"mailto:{merchant.support}", quote=True)
        text = "Get help" if is_url else escape(merchant.support)
        lines.append(f'<p>Questions about this payment? <a href="{href}">{text}</a></p>')
    if merchant.return_url:
        href = escape(merchant.return_url, quote=True)
        to = escape(merchant.name) if merchant.name else "the app"
        lines.append(f'<p><a href="{href}">Return to {to}</a></p>')
    return f"<footer>{''.join(lines)}</footer>" if lines else ""
