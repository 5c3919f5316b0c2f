"""Reading a request's body: bounded in bytes and in time."""

from __future__ import annotations

import asyncio

from aiohttp import web

from shared.errors import (
    InvalidRequestError,
    PayloadTooLargeError,
    RequestTimeoutError,
    UnsupportedMediaTypeError,
)

BODY_BYTES_MAX = 1024 * 1024
BODY_SECONDS_MAX = 10


async def read_body(request: web.Request) -> bytes:
    """Return the whole body, as it was sent: nothing is unpacked.

    Raises UnsupportedMediaTypeError where it says that it is packed, PayloadTooLargeError,
    RequestTimeoutError, or InvalidRequestError where it is cut.
    """
    for encoding in request.headers.getall("Content-Encoding", []):
        if encoding.strip().lower() != "identity":
            raise UnsupportedMediaTypeError("Send the body without a Content-Encoding.")
    if (request.content_length or 0) > BODY_BYTES_MAX:
        raise PayloadTooLargeError(f"The body is over {BODY_BYTES_MAX} bytes.")
    try:
        if request.content.is_eof():  # it came with the head, as nearly all do
            return await request.read()
        async with asyncio.timeout(BODY_SECONDS_MAX):
            return await request.read()  # bounded by the application's client_max_size
    except TimeoutError:
        raise RequestTimeoutError from None
    except (web.RequestPayloadError, ConnectionError):  # the client's connection: no server's
        raise InvalidRequestError("The body cannot be read to its end.") from None
