"""The error envelope that every HTTP response uses."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from shared.errors import (
    FieldError,
    InvalidRequestError,
    MethodNotAllowedError,
    NotFoundError,
    PayloadTooLargeError,
    PrepaidError,
)

# How many characters of a request an error may repeat, so that long names and values do not make
# long responses.
DETAIL_LENGTH_MAX = 1_000
ERRORS_MAX = 20
LOCATION_STEPS_MAX = 20
STEP_LENGTH_MAX = 100
MESSAGE_LENGTH_MAX = 500

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
    """Return `{"code", "type", "detail"}`, `errors` for rejected fields, and the error's extras."""
    body: dict[str, Any] = {
        "code": error.status,
        "type": error.type,
        "detail": _truncate(error.detail, DETAIL_LENGTH_MAX),
    }
    if error.errors:
        body["errors"] = [_truncated(field) for field in error.errors[:ERRORS_MAX]]
    return {**body, **error.more}


def _truncated(field: FieldError) -> FieldError:
    location: list[str | int] = [
        step if isinstance(step, int) else _truncate(step, STEP_LENGTH_MAX)
        for step in field["loc"][:LOCATION_STEPS_MAX]
    ]
    return {
        "loc": location,
        "msg": _truncate(field["msg"], MESSAGE_LENGTH_MAX),
        "type": field["type"],
    }


def _truncate(text: str, length_max: int) -> str:
    return text if len(text) <= length_max else f"{text[: length_max - 1]}…"


def error_response(error: PrepaidError) -> web.Response:
    """Return the envelope of an error, with its status."""
    response = json_response(envelope(error), error.status)
    if error.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(error.retry_after_seconds)
    return response


def from_http_exception(error: web.HTTPException) -> PrepaidError:
    """Translate an error of aiohttp itself (unknown path, wrong method, body too large)."""
    kind = _BY_STATUS.get(error.status, InvalidRequestError)
    return kind(error.reason) if kind is InvalidRequestError else kind()
