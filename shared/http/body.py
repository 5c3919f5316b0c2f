"""Reading request bodies, with limits on bytes, time and concurrent large bodies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

from aiohttp import hdrs, web

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
_AT_ONCE: AbstractAsyncContextManager[None] = nullcontext()


class LargeBodies:
    """Limits how many large bodies are read concurrently; small bodies never wait.

    A body is large when its Content-Length exceeds `small_bytes_max`, or when it has none and has
    not arrived with the head. Memory is bounded by `at_once_max` large bodies plus one small body
    per connection.
    """

    def __init__(self, *, small_bytes_max: int, at_once_max: int, turn_seconds_max: float) -> None:
        self._small_bytes_max = small_bytes_max
        self._turns = asyncio.Semaphore(at_once_max)
        self._turn_seconds_max = turn_seconds_max

    def turn(self, request: web.Request) -> AbstractAsyncContextManager[None]:
        """Wait for a slot to read and handle this body; raise UnavailableError on timeout."""
        length = request.content_length
        if request.content.is_eof() if length is None else length <= self._small_bytes_max:
            return _AT_ONCE
        return self._turn_of_large()

    @asynccontextmanager
    async def _turn_of_large(self) -> AsyncIterator[None]:
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
    """Whether the unread rest of a rejected body is small enough to keep the connection."""
    if request.content.is_eof():
        return True
    length = request.content_length
    return length is not None and length <= SMALL_BODY_BYTES_MAX


def check_head(request: web.Request) -> None:
    """Check the request's headers before any of its body is read.

    Raises UnsupportedMediaTypeError for a compressed body, PayloadTooLargeError for a
    Content-Length over the limit.
    """
    for encoding in request.headers.getall(hdrs.CONTENT_ENCODING, []):
        if encoding.strip().lower() != "identity":
            raise UnsupportedMediaTypeError("Send the body without a Content-Encoding.")
    if (request.content_length or 0) > BODY_BYTES_MAX:
        raise _too_large()


async def read_body(request: web.Request) -> bytes:
    """Return the whole body as it was sent, without decompression.

    Raises what `check_head` raises, PayloadTooLargeError for a body without a Content-Length that
    exceeds the limit, RequestTimeoutError, or InvalidRequestError for a truncated body.
    """
    check_head(request)
    try:
        if request.content.is_eof():  # it arrived with the head, as nearly all do
            raw = request.content.read_nowait()
            if len(raw) > BODY_BYTES_MAX:
                raise _too_large()
            return raw
        async with asyncio.timeout(BODY_SECONDS_MAX):
            return await request.read()  # bounded by the application's client_max_size
    except web.HTTPRequestEntityTooLarge:
        raise _too_large() from None
    except TimeoutError:
        raise RequestTimeoutError from None
    except (web.RequestPayloadError, ConnectionError):  # the client's connection failed
        raise InvalidRequestError("The body cannot be read to its end.") from None


def _too_large() -> PayloadTooLargeError:
    return PayloadTooLargeError(f"The body is over {BODY_BYTES_MAX} bytes.")
