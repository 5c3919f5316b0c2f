"""The one error envelope of every HTTP surface."""

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

# What a refusal may repeat of a request, in characters: none is much longer than its sentences,
# however long the names and values that it is about.
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
    """Return `{"code", "type", "detail"}`, `errors` for rejected fields, and what else helps."""
    body: dict[str, Any] = {
        "code": error.status,
        "type": error.type,
        "detail": _cut(error.detail, DETAIL_LENGTH_MAX),
    }
    if error.errors:
        body["errors"] = [_bounded(found) for found in error.errors[:ERRORS_MAX]]
    return {**body, **error.more}


def _bounded(found: FieldError) -> FieldError:
    location: list[str | int] = [
        step if isinstance(step, int) else _cut(step, STEP_LENGTH_MAX)
        for step in found["loc"][:LOCATION_STEPS_MAX]
    ]
    return {
        "loc": location,
        "msg": _cut(found["msg"], MESSAGE_LENGTH_MAX),
        "type": found["type"],
    }


def _cut(text: str, length_max: int) -> str:
    return text if len(text) <= length_max else f"{text[: length_max - 1]}…"


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
