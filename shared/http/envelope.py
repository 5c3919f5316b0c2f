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


def json_response(body: Any, status: int = HTTPStatus.OK) -> web.Response:
    """Return any plain or msgspec value as JSON; Decimals keep every digit, as numbers."""
    return web.Response(
        body=msgspec.json.encode(body), status=status, content_type="application/json"
    )


def error_response(error: PrepaidError) -> web.Response:
    """Return `{"code", "type", "detail"}`, and `errors` where fields were rejected."""
    body: dict[str, Any] = {"code": error.status, "type": error.type, "detail": error.detail}
    if error.errors:
        body["errors"] = error.errors
    return json_response(body, error.status)


def from_http_exception(error: web.HTTPException) -> PrepaidError:
    """Translate what aiohttp itself refuses (no such path, wrong method, body too large)."""
    kind = _BY_STATUS.get(error.status, InvalidRequestError)
    return kind(error.reason) if kind is InvalidRequestError else kind()
