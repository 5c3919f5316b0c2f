"""What every HTTP surface does around a request: its id, its log line, its errors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from shared import outages
from shared.db.pool import UNAVAILABLE
from shared.errors import PrepaidError, RateLimitError, StripeFailedError, UnavailableError
from shared.http.body import is_worth_reading
from shared.http.envelope import error_response, from_http_exception
from shared.ids import new_request_id

log = structlog.get_logger()

REQUEST_ID = "X-Request-Id"
REQUEST_ID_KEY = web.RequestKey("request_id", str)
# What a handler wants on the answer, whatever becomes of the request.
ANSWER_HEADERS = web.RequestKey("answer_headers", Mapping)
RETRY_AFTER_SECONDS = "5"
# The rest of such a path is a secret, which no log shows.
CAPABILITY_PATH = "/pay/"
_ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@web.middleware
async def request_edge(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request an id, answer every failure with the envelope, never with a trace.

    The caller's own X-Request-Id is kept where it is harmless, so that its logs and ours join.
    """
    request_id = request.headers.get(REQUEST_ID, "")
    if not _ACCEPTABLE_ID.fullmatch(request_id):
        request_id = new_request_id()
    request[REQUEST_ID_KEY] = request_id
    try:
        response = await handler(request)
    except web.HTTPException as error:
        if error.status < 400:  # noqa: PLR2004 - a redirect is an answer
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
            path=_shown_path(request),
        )
        response = error_response(PrepaidError())
    if response.status == UnavailableError.status:
        response.headers.setdefault("Retry-After", RETRY_AFTER_SECONDS)
    if not is_worth_reading(request):
        response.force_close()
    response.headers.update(request.get(ANSWER_HEADERS, {}))
    response.headers[REQUEST_ID] = request_id
    return response


def _shown_path(request: web.Request) -> str:
    # As it was sent: unquoted, it could write control characters into a terminal.
    hidden = request.path.startswith(CAPABILITY_PATH)
    return f"{CAPABILITY_PATH}…" if hidden else request.rel_url.raw_path


def _log(request: web.Request, error: PrepaidError) -> None:
    """Write down what is answered: where it is a failure of ours, with its trace."""
    if isinstance(error, RateLimitError):
        return  # the limiter writes one line for many
    told = {
        "request_id": request[REQUEST_ID_KEY],
        "method": request.method,
        "path": _shown_path(request),
        "status": int(error.status),
        "type": error.type,
        "detail": error.detail,
    }
    if error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        log.info("http.refused", **told)
    elif isinstance(error, UnavailableError | StripeFailedError):  # another server's failure
        log.warning("http.refused", **told)
    else:
        log.error("http.failed", exc_info=error, **told)
