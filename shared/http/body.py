"""Reading a request's body: bounded in bytes, in time, and in large ones at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from shared.errors import (
    InvalidRequestError,
    PayloadTooLargeError,
    RequestTimeoutError,
    UnavailableError,
    UnsupportedMediaTypeError,
)

BODY_BYTES_MAX = 1024 * 1024
BODY_SECONDS_MAX = 10
SMALL_BODY_BYTES_MAX = 64 * 1024
TURN_RETRY_AFTER_SECONDS = 5


class LargeBodies:
    """Reads a few large bodies at a time; small ones do not wait for them.

    A body is large when its length is over `small_bytes_max`, or not announced and not there yet.
    So the bytes in memory are bounded by `at_once_max` large bodies, besides one small body for
    each connection.
    """

    def __init__(self, *, small_bytes_max: int, at_once_max: int, turn_seconds_max: float) -> None:
        self._small_bytes_max = small_bytes_max
        self._turns = asyncio.Semaphore(at_once_max)
        self._turn_seconds_max = turn_seconds_max

    @asynccontextmanager
    async def turn(self, request: web.Request) -> AsyncIterator[None]:
        """Wait until this body may be read and handled; raise UnavailableError after a while."""
        length = request.content_length
        if request.content.is_eof() if length is None else length <= self._small_bytes_max:
            yield
            return
        try:
            async with asyncio.timeout(self._turn_seconds_max):
                await self._turns.acquire()
        except TimeoutError:
            raise UnavailableError(
                "Too many large bodies are being received.",
                retry_after_seconds=TURN_RETRY_AFTER_SECONDS,
            ) from None
        try:
            yield
        finally:
            self._turns.release()


def is_worth_reading(request: web.Request) -> bool:
    """Whether the rest of a body that was refused is small: its connection can be used again."""
    length = request.content_length
    return request.content.is_eof() or (length is not None and length <= SMALL_BODY_BYTES_MAX)


def check_head(request: web.Request) -> None:
    """Refuse a body by what the head says of it, before any of it is read.

    Raises UnsupportedMediaTypeError where it is packed, PayloadTooLargeError where its length is
    over the limit.
    """
    for encoding in request.headers.getall("Content-Encoding", []):
        if encoding.strip().lower() != "identity":
            raise UnsupportedMediaTypeError("Send the body without a Content-Encoding.")
    if (request.content_length or 0) > BODY_BYTES_MAX:
        raise PayloadTooLargeError(f"The body is over {BODY_BYTES_MAX} bytes.")


async def read_body(request: web.Request) -> bytes:
    """Return the whole body, as it was sent: nothing is unpacked.

    Raises what `check_head` raises, PayloadTooLargeError where a body without a length is over the
    limit, RequestTimeoutError, or InvalidRequestError where it is cut.
    """
    check_head(request)
    try:
        if request.content.is_eof():  # it came with the head, as nearly all do
            return await request.read()
        async with asyncio.timeout(BODY_SECONDS_MAX):
            return await request.read()  # bounded by the application's client_max_size
    except TimeoutError:
        raise RequestTimeoutError from None
    except (web.RequestPayloadError, ConnectionError):  # the client's connection: no server's
        raise InvalidRequestError("The body cannot be read to its end.") from None
