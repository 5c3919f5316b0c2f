"""The HTML of the pay page: no script, no external resources."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from html import escape
from importlib.resources import files
from string import Template

from aiohttp import web

from shared.money import format_money
from shared.recharge.recovery import Recovery

_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex",
}


def ask(payment: Recovery, *, bank_origins: str) -> web.Response:
    """Return the page that asks for authentication; its form may post to these origins."""
    return _page(
        f"{payment.organization_name}: authentication required",
        "<h1>Your bank asks you to confirm a payment</h1>"
        f'<p class="amount">{format_money(payment.amount_minor, payment.currency)}</p>'
        f"{_facts(payment)}"
        '<form method="post"><button>Continue to your bank</button></form>'
        '<p class="note">You return here afterwards. Nothing is charged before you confirm.</p>',
        forms_to=bank_origins,
    )


def paid(payment: Recovery) -> web.Response:
    """Return the page of a successful payment."""
    return _page(
        "Payment complete",
        '<h1 class="good">Thank you, the payment is complete</h1>'
        f'<p class="amount">{format_money(payment.amount_minor, payment.currency)}</p>'
        f"{_facts(payment)}"
        "<p>Your credits will be added shortly. You can close this page.</p>",
    )


def under_way(payment: Recovery) -> web.Response:
    """Return the page of a payment that the bank is processing."""
    return _page(
        "Payment processing",
        "<h1>The payment is being processed</h1>"
        f'<p class="amount">{format_money(payment.amount_minor, payment.currency)}</p>'
        f"{_facts(payment)}"
        "<p>You have nothing more to do. Your credits are added as soon as it succeeds.</p>",
    )


def not_done(token: str) -> web.Response:
    """Return the page of a payment that was not authenticated, with a way to retry."""
    return _page(
        "Payment not complete",
        '<h1 class="bad">The payment is not complete</h1>'
        "<p>Your bank did not confirm that it was you. Nothing was charged.</p>"
        f'<a class="button" href="/pay/{escape(token, quote=True)}">Try again</a>',
    )


def ended(words: str) -> web.Response:
    """Return the page of a link that has ended."""
    return _page("Link ended", f"<h1>This link has ended</h1><p>{escape(words)}</p>", 410)


def unknown() -> web.Response:
    """Return the page of an unknown link."""
    return _page(
        "Not found",
        "<h1>There is no such payment</h1>"
        "<p>The address may be incomplete. Open the latest link that you received.</p>",
        404,
    )


def try_later(status: int) -> web.Response:
    """Return the page for an unavailable service, Prepaid or Stripe."""
    page = _page(
        "Try again soon",
        "<h1>This page is not available right now</h1>"
        "<p>Nothing was charged. Please open the link again in a few minutes.</p>",
        status,
    )
    page.headers["Retry-After"] = "60"
    return page


def _facts(payment: Recovery) -> str:
    facts = [("For", payment.organization_name), ("Paid with", payment.method)]
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts)
    return f"<dl>{rows}</dl>"


@cache
def _layout() -> tuple[Template, str, str]:
    """Return the page template, its style, and the style's hash for the Content-Security-Policy."""
    folder = files("api.pay")
    style = folder.joinpath("pay.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return Template(folder.joinpath("pay.html").read_text(encoding="utf-8")), style, digest


def _page(title: str, body: str, status: int = 200, *, forms_to: str = "") -> web.Response:
    template, style, digest = _layout()
    # form-action also applies to the redirect after the form is posted.
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; "
        f"frame-ancestors 'none'; form-action 'self' {forms_to}"
    )
    return web.Response(
        text=template.substitute(title=escape(title), style=style, body=body),
        status=status,
        content_type="text/html",
        headers={**_HEADERS, "Content-Security-Policy": policy.strip()},
    )
