"""The edge of the console: session, role, form, deadline, and errors as pages."""

from __future__ import annotations

import hmac
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from urllib.parse import parse_qsl, urlencode

import structlog
from aiohttp import web

from console.framework import cookies, rendering
from console.framework.context import Console, Visit
from console.framework.page import ROOT, Page
from shared import outages
from shared.access.console import store
from shared.access.console.model import ConsoleSession
from shared.db.pool import UNAVAILABLE
from shared.errors import (
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    PrepaidError,
    UnavailableError,
)
from shared.http.body import read_body
from shared.http.middleware import REQUEST_ID_KEY

log = structlog.get_logger()

PAGE_SECONDS_MAX = 20.0
FORM_FIELDS_MAX = 100
FORM_TYPE = "application/x-www-form-urlencoded"
SIGN_IN_PATH = f"{ROOT}/sign-in"
CSRF_FIELD = "csrf"
STALE_FORM = (
    "This form is not of your present session: it was opened before you signed in, or by another"
    " page. Nothing was changed. Go back, reload the page and send the form again."
)
Respond = Callable[[web.Request], Awaitable[web.Response]]


def handler(console: Console, page: Page) -> Respond:
    """Return the HTTP handler of a page: it needs a session."""

    async def respond(request: web.Request) -> web.Response:
        token = cookies.read_session(request, console.signer)
        session = None if token is None else await _find_session(console, token)
        if token is None or session is None:
            return _to_sign_in(request)
        visit = _visit(console, request, session, token)
        try:
            return await _respond(page, request, visit)
        except PrepaidError as error:
            return error_page(error, visit)

    return guarded(console, respond)


def guarded(console: Console, respond: Respond) -> Respond:
    """Return a handler with a deadline, whose failures are pages; for those without a session."""

    async def handle(request: web.Request) -> web.Response:
        try:
            return await console.deadlines.within(PAGE_SECONDS_MAX, respond(request))
        except PrepaidError as error:
            return error_page(error)
        except UNAVAILABLE as error:
            if not outages.POSTGRES.failed(error):
                log.warning("console.database_busy", error=repr(error))
            return error_page(UnavailableError("PostgreSQL is not available. Try again soon."))
        except web.HTTPException:
            raise
        except Exception:
            log.exception("console.failed", request_id=request[REQUEST_ID_KEY])
            return error_page(PrepaidError("Prepaid failed. The log has the request id."))

    return handle


def error_page(error: PrepaidError, visit: Visit | None = None) -> web.Response:
    """Return the page of an error, with what to do next where the error says it."""
    response = rendering.page(
        "error.html",
        status=error.status,
        visit=visit,
        title=error.status.phrase,
        breadcrumbs=(),
        error=error,
    )
    if error.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(math.ceil(error.retry_after_seconds))
    return response


async def read_form(request: web.Request) -> Mapping[str, str]:
    """Return the fields of a form; raise InvalidRequestError where it is not one."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
        raise PermissionDeniedError(STALE_FORM)
    if request.content_type != FORM_TYPE:
        raise InvalidRequestError("Send the form of the page.")
    body = await read_body(request)
    try:
        fields = parse_qsl(
            body.decode(), keep_blank_values=True, errors="strict", max_num_fields=FORM_FIELDS_MAX
        )
    except ValueError:
        raise InvalidRequestError("The form cannot be read.") from None
    return _storable(dict(fields))


async def _find_session(console: Console, token: str) -> ConsoleSession | None:
    async with console.pool.acquire() as connection:
        return await store.find_session(connection, token, now=console.now())


def _visit(console: Console, request: web.Request, session: ConsoleSession, token: str) -> Visit:
    return Visit(
        console=console,
        session=session,
        csrf=console.signer.token("form", token),
        request_id=request[REQUEST_ID_KEY],
        now=console.now(),
        address=request.path,
        path=request.match_info,
        query={},
        form={},
        flash=rendering.read_flash(request, console.signer),
    )


async def _respond(page: Page, request: web.Request, visit: Visit) -> web.Response:
    if visit.organization_id is not None and not page.for_bound_keys:
        raise NotFoundError("There is no such page.")
    _storable(visit.path)
    form: Mapping[str, str] = {}
    if page.method == "POST":
        form = await read_form(request)
        if not _same(form.get(CSRF_FIELD, ""), visit.csrf):
            raise PermissionDeniedError(STALE_FORM)
    if page.needs_operator:
        visit.check_operator()
    return await page.handle(replace(visit, query=_storable(dict(request.query)), form=form))


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


def _storable(fields: Mapping[str, str]) -> Mapping[str, str]:
    """Return fields that PostgreSQL can store and compare; raise InvalidRequestError for others."""
    for name, value in fields.items():
        if not _is_text(name) or not _is_text(value):
            raise InvalidRequestError("A field has characters that are not text.")
    return fields


def _is_text(value: str) -> bool:
    return "\0" not in value and value.encode(errors="ignore").decode() == value


def _to_sign_in(request: web.Request) -> web.Response:
    """Return a redirect to the sign-in page, which returns to the page that was asked for."""
    target = str(request.rel_url) if request.method == "GET" else ROOT
    return web.Response(
        status=303, headers={"Location": f"{SIGN_IN_PATH}?{urlencode({'return': target})}"}
    )
