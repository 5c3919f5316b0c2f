"""The one error envelope of every HTTP surface."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from shared.errors import (
    InvalidRequestError,
    MethodNotAllowedError,
    NotFoundError,
    PayloadTooLargeError,
    PrepaidError,
)

_BY_STATUS: dict[int, type[PrepaidError]] = {
    HTTPStatus.NOT_FOUND: NotFoundError,
    HTTPStatus.METHOD_NOT_ALLOWED: MethodNotAllowedError,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: PayloadTooLargeError,
}


def encode(body: Any) -> bytes:
    """Return any plain or msgspec value as JSON."""
    return msgspec.json.encode(body)


def json_response(body: Any, status: int = HTTPStatus.OK) -> web.Response:
    """Return any plain or msgspec value as JSON; Decimals keep every digit, as numbers."""
    return web.Response(body=encode(body), status=status, content_type="application/json")


def envelope(error: PrepaidError) -> dict[str, Any]:
    """Return `{"code", "type", "detail"}`, `errors` for rejected fields, and what else helps."""
    body: dict[str, Any] = {"code": error.status, "type": error.type, "detail": error.detail}
    if error.errors:
        body["errors"] = error.errors
    return {**body, **error.more}


def error_response(error: PrepaidError) -> web.Response:
    """Return the envelope of an error, with its status."""
    response = json_response(envelope(error), error.status)
    if error.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(error.retry_after_seconds)
    return response


def from_http_exception(error: web.HTTPException) -> PrepaidError:
    """Translate what aiohttp itself refuses (no such path, wrong method, body too large)."""
    kind = _BY_STATUS.get(error.status, InvalidRequestError)
    return kind(error.reason) if kind is InvalidRequestError else kind()
