"""What a customer sees whose bank wants them: plain HTML, no script, nothing from afar."""

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


def ask(found: Recovery, *, bank_origins: str) -> web.Response:
    """Ask the customer to authenticate with their bank; the form may lead to these origins."""
    return _page(
        f"{found.organization_name}: your bank needs you",
        "<h1>Your bank needs you to confirm a payment</h1>"
        f'<p class="amount">{format_money(found.amount_minor, found.currency)}</p>'
        f"{_facts(found)}"
        '<form method="post"><button>Continue to your bank</button></form>'
        '<p class="note">You come back here afterwards. Nothing is charged before you confirm.</p>',
        forms_to=bank_origins,
    )


def paid(found: Recovery) -> web.Response:
    """Say that the payment went through."""
    return _page(
        "Payment complete",
        '<h1 class="good">Thank you, the payment is complete</h1>'
        f'<p class="amount">{format_money(found.amount_minor, found.currency)}</p>{_facts(found)}'
        "<p>Your credits are on their way. You can close this page.</p>",
    )


def under_way(found: Recovery) -> web.Response:
    """Say that the bank has not decided."""
    return _page(
        "Payment under way",
        "<h1>The payment is under way</h1>"
        f'<p class="amount">{format_money(found.amount_minor, found.currency)}</p>{_facts(found)}'
        "<p>There is nothing more for you to do. Credits come as soon as it is through.</p>",
    )


def not_done(token: str) -> web.Response:
    """Say that it did not work, and offer to try again."""
    return _page(
        "Payment not complete",
        '<h1 class="bad">The payment is not complete</h1>'
        "<p>Your bank did not confirm that it was you. Nothing was charged.</p>"
        f'<a class="button" href="/pay/{escape(token, quote=True)}">Try again</a>',
    )


def ended(words: str) -> web.Response:
    """Say that this link is of no more use."""
    return _page("Link ended", f"<h1>This link has ended</h1><p>{escape(words)}</p>", 410)


def unknown() -> web.Response:
    """Say that this address leads nowhere."""
    return _page(
        "Not found",
        "<h1>There is no such payment</h1>"
        "<p>The address may have been cut. Open the newest link that you were sent.</p>",
        404,
    )


def try_later(status: int) -> web.Response:
    """Say that something of ours, or Stripe, is away."""
    page = _page(
        "Try again soon",
        "<h1>This does not work right now</h1>"
        "<p>Nothing was charged. Please open the link again in a few minutes.</p>",
        status,
    )
    page.headers["Retry-After"] = "60"
    return page


def _facts(found: Recovery) -> str:
    facts = [("For", found.organization_name), ("Paid with", found.method)]
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts)
    return f"<dl>{rows}</dl>"


@cache
def _layout() -> tuple[Template, str, str]:
    """Return the page, its style, and the style's hash, which alone the browser may apply."""
    folder = files("api.pay")
    style = folder.joinpath("pay.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return Template(folder.joinpath("pay.html").read_text(encoding="utf-8")), style, digest


def _page(title: str, body: str, status: int = 200, *, forms_to: str = "") -> web.Response:
    template, style, digest = _layout()
    # A browser holds the redirect after a form against form-action too.
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
