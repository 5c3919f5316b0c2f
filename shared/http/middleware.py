"""Middleware of every HTTP process: request ids, error responses and their log lines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from multidict import istr

from shared import outages
from shared.db.pool import UNAVAILABLE
from shared.errors import PrepaidError, RateLimitError, StripeFailedError, UnavailableError
from shared.http.body import is_worth_reading
from shared.http.envelope import error_response, from_http_exception
from shared.http.refusal_log import RefusalLog
from shared.ids import new_request_id

log = structlog.get_logger()

REQUEST_ID = "X-Request-Id"
_REQUEST_ID = istr(REQUEST_ID)  # its lower-case form is computed once
REQUEST_ID_KEY = web.RequestKey("request_id", str)
# Headers that a handler sets for the response, whether the request succeeds or fails.
ANSWER_HEADERS = web.RequestKey("answer_headers", Mapping)
RETRY_AFTER_SECONDS = "5"
# The rest of such a path is a secret and is not logged.
CAPABILITY_PATHS = ("/pay/", "/console/sign-in/")
_refusals = RefusalLog()
_ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@web.middleware
async def request_edge(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Assign a request id and turn every failure into the error envelope, never a traceback.

    A well-formed X-Request-Id of the caller is used, so that the logs of both can be joined.
    """
    request_id = request.headers.get(_REQUEST_ID, "")
    if not _ACCEPTABLE_ID.fullmatch(request_id):
        request_id = new_request_id()
    request[REQUEST_ID_KEY] = request_id
    try:
        response = await handler(request)
    except web.HTTPException as error:
        if error.status < 400:  # noqa: PLR2004 - a redirect is no error
            raise
        response = error_response(from_http_exception(error))
        response.headers.extend({k: v for k, v in error.headers.items() if k == "Allow"})
    except PrepaidError as error:
        response = error_response(error)
        _log(request, error)
    except UNAVAILABLE as error:
        if not outages.POSTGRES.failed(error):
            log.warning("http.database_busy", request_id=request_id, error=repr(error))
        response = error_response(UnavailableError())
    except Exception:
        log.exception(
            "http.failed",
            request_id=request_id,
            method=request.method,
            path=_loggable_path(request),
        )
        response = error_response(PrepaidError())
    if response.status == UnavailableError.status:
        response.headers.setdefault("Retry-After", RETRY_AFTER_SECONDS)
    if not is_worth_reading(request):
        response.force_close()
    response.headers.update(request.get(ANSWER_HEADERS, {}))
    response.headers[_REQUEST_ID] = request_id
    return response


def _loggable_path(request: web.Request) -> str:
    # Still quoted: unquoted, it could write control characters to a terminal.
    for hidden in CAPABILITY_PATHS:
        if request.path.startswith(hidden):
            return f"{hidden}…"
    return request.rel_url.raw_path


def _log(request: web.Request, error: PrepaidError) -> None:
    """Log the error response, with a traceback for an internal error."""
    if isinstance(error, RateLimitError):
        return  # the limiter writes one line for many
    if error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        _refusals.write(lambda: _fields(request, error))
    elif isinstance(error, UnavailableError | StripeFailedError):  # another server's failure
        log.warning("http.refused", **_fields(request, error))
    else:
        log.error("http.failed", exc_info=error, **_fields(request, error))


def _fields(request: web.Request, error: PrepaidError) -> dict[str, object]:
    return {
        "request_id": request[REQUEST_ID_KEY],
        "method": request.method,
        "path": _loggable_path(request),
        "status": int(error.status),
        "type": error.type,
        "detail": error.detail,
    }
