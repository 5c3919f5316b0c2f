"""CSV responses: a whole text, or a stream of parts with bounded memory and time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import structlog
from aiohttp import hdrs, web

from shared.http.middleware import ANSWER_HEADERS, REQUEST_ID, REQUEST_ID_KEY
from shared.spreadsheets import CONTENT_TYPE

JSON = "application/json"
# How long a client may read nothing before the connection is closed.
WRITE_SECONDS_MAX = 30.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Csv:
    """A CSV file of bounded size. `name` is its file name."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class CsvStream:
    """A CSV file of any size, part by part. A part is read when the last one was sent."""

    name: str
    parts: AsyncIterator[str]


def prefers_csv(headers: Mapping[str, str]) -> bool:
    """Whether a request accepts CSV and no JSON."""
    accept = headers.get(hdrs.ACCEPT, "")
    if CONTENT_TYPE not in accept.lower():
        return False
    accepted = [part.partition(";")[0].strip() for part in accept.split(",")]
    return CONTENT_TYPE in map(str.lower, accepted) and JSON not in map(str.lower, accepted)


def csv_response(file: Csv) -> web.Response:
    """Return a whole file."""
    return web.Response(
        text=file.text,
        content_type=CONTENT_TYPE,
        charset="utf-8",
        headers={"Content-Disposition": _attachment(file.name)},
    )


async def stream(request: web.Request, file: CsvStream) -> web.StreamResponse:
    """Send a file as it is read.

    A failure before the first part is an ordinary error. A later one, or a client that reads
    nothing for `WRITE_SECONDS_MAX`, closes the connection: the client sees that the file has no
    end.
    """
    first = await anext(file.parts, "")
    response = web.StreamResponse(headers={"Content-Disposition": _attachment(file.name)})
    response.content_type = CONTENT_TYPE
    response.charset = "utf-8"
    response.headers.update(request.get(ANSWER_HEADERS, {}))
    response.headers[REQUEST_ID] = request[REQUEST_ID_KEY]
    try:
        await response.prepare(request)
        await _write(response, first)
        async for part in file.parts:
            await _write(response, part)
        await response.write_eof()
    except BaseException as error:
        if request.transport is not None:
            request.transport.abort()
        if not isinstance(error, ConnectionError | TimeoutError):
            raise
        log.info("http.stream_stopped", request_id=request[REQUEST_ID_KEY], error=repr(error))
    return response


async def _write(response: web.StreamResponse, part: str) -> None:
    async with asyncio.timeout(WRITE_SECONDS_MAX):
        await response.write(part.encode())


def _attachment(name: str) -> str:
    """Return the header for a file name of letters, digits, dots and dashes."""
    return f'attachment; filename="{name}"'
