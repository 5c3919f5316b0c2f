"""The session cookie: signed, for the console alone, out of reach of scripts."""

from __future__ import annotations

from aiohttp import web

from console.framework.rendering import COOKIE_PATH
from console.framework.signing import Signer
from shared.access.console.model import ABSOLUTE_LIFETIME

SESSION_COOKIE = "prepaid_console"


def set_session(response: web.Response, signer: Signer, token: str, *, secure: bool) -> None:
    """Sign a browser in.

    Lax and not Strict: with Strict, a link from a chat or a mail would open the sign-in page. A GET
    changes nothing; a form of another site is sent without the cookie either way.
    """
    response.set_cookie(
        SESSION_COOKIE,
        signer.sign("session", token),
        path=COOKIE_PATH,
        max_age=int(ABSOLUTE_LIFETIME.total_seconds()),
        httponly=True,
        samesite="Lax",
        secure=secure,
    )


def read_session(request: web.Request, signer: Signer) -> str | None:
    """Return the token of the session; None where there is none, or its signature is not ours."""
    return signer.verify("session", request.cookies.get(SESSION_COOKIE, ""))


def delete_session(response: web.Response) -> None:
    """Sign a browser out."""
    response.del_cookie(SESSION_COOKIE, path=COOKIE_PATH)
