"""HTML from templates: escaped, with a strict policy, without scripts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from aiohttp import web

from console.framework import formatting
from console.framework.charts import Chart
from console.framework.payload_tree import tree
from console.framework.signing import Signer
from shared.counts import counted, of_number
from shared.http.templates import create_environment
from shared.money import format_money

if TYPE_CHECKING:
    from console.framework.context import Visit

FOLDER = Path(__file__).parents[1]
FLASH_COOKIE = "prepaid_console_message"
FLASH_SECONDS = 60
FLASH_LENGTH_MAX = 500
COOKIE_PATH = "/console"
STYLE_PATH = "/console/static/console.css"
ICON_PATH = "/console/static/icon.svg"
# Nothing from another host, no script, no inline style, no frame.
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
)
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex",
}


@dataclass(frozen=True, slots=True)
class Flash:
    """A message that is shown once, after an act."""

    kind: str
    text: str


@cache
def _environment() -> jinja2.Environment:
    environment = create_environment(FOLDER / "templates")
    environment.filters |= {
        "amount": formatting.amount,
        "counted": counted,
        "duration": formatting.duration,
        "money": format_money,
        "of_number": of_number,
        "relative": formatting.relative,
        "segment": formatting.segment,
        "shortened": formatting.shortened,
        "size": formatting.size,
        "tone": formatting.tone,
        "tree": tree,
        "utc": formatting.utc,
    }
    environment.tests["time"] = lambda value: isinstance(value, datetime)
    environment.tests["chart"] = lambda value: isinstance(value, Chart)
    environment.globals["icon_path"] = ICON_PATH
    environment.globals["style_path"] = f"{STYLE_PATH}?v={style()[1]}"
    return environment


@cache
def style() -> tuple[bytes, str]:
    """Return the style sheet, and the part of its digest that its address carries."""
    text = (FOLDER / "static" / "console.css").read_bytes()
    return text, hashlib.sha256(text).hexdigest()[:12]


@cache
def icon() -> bytes:
    """Return the icon of the browser's tab."""
    return (FOLDER / "static" / "icon.svg").read_bytes()


def page(template: str, *, status: int, visit: Visit | None, **values: Any) -> web.Response:
    """Return a page. `visit` None: for a browser that is not signed in."""
    html = _environment().get_template(template).render(visit=visit, **values)
    response = web.Response(
        text=html, status=status, content_type="text/html", headers=dict(HEADERS)
    )
    if visit is not None and visit.flash is not None:
        response.del_cookie(FLASH_COOKIE, path=COOKIE_PATH)
    return response


def set_flash(
    response: web.Response, signer: Signer, message: str, kind: str, *, secure: bool
) -> None:
    """Have the next page show a message once."""
    text = f"{kind}|{formatting.shortened(message, FLASH_LENGTH_MAX)}"
    response.set_cookie(
        FLASH_COOKIE,
        signer.sign("message", text),
        path=COOKIE_PATH,
        max_age=FLASH_SECONDS,
        httponly=True,
        samesite="Lax",
        secure=secure,
    )


def read_flash(request: web.Request, signer: Signer) -> Flash | None:
    """Return the message that a redirect left; None where there is none."""
    text = signer.verify("message", request.cookies.get(FLASH_COOKIE, ""))
    if text is None:
        return None
    kind, _, message = text.partition("|")
    return Flash(kind, message)
