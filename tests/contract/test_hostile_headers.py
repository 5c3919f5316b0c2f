"""Whatever the headers and the framing of a request say is answered in the envelope."""

from __future__ import annotations

import itertools
import json
import os
import zlib
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from api.endpoints import OPERATIONS
from api.framework import edge
from api.framework.operation import Operation
from sandbox.product import WebProcess
from shared.errors import (
    AuthenticationError,
    InvalidRequestError,
    PayloadTooLargeError,
    UnsupportedMediaTypeError,
)
from shared.http.body import BODY_BYTES_MAX
from tests.fixtures.operation_requests import Request, check_refused
from tests.fixtures.operation_tenants import World
from tests.fixtures.operations import name
from tests.fixtures.probes import JSON, WITH_A_BODY, WRITES, as_it_is
from tests.fixtures.product import send_raw


@pytest.mark.parametrize("operation", OPERATIONS, ids=name)
async def test_keys_that_contradict_each_other_are_401(world: World, operation: Operation) -> None:
    request = await world.request(operation, world.a)
    key, other = world.client.key, (await world.client.make_key()).key
    bearer = "Authorization: Bearer {}\r\n".format
    for headers in (
        bearer(key) + bearer(other),
        bearer(key) + f"x-api-key: {other}\r\n",
        bearer(key) + "Authorization: Basic eDp5\r\n",
        f"x-api-key: {key}\r\nx-api-key: {other}\r\nX-Authorization: x\r\n",
        "Authorization: Basic eDp5\r\n",
        "Authorization: \r\n",
        "Authorization: Bearer\r\n",
        "Authorization: Bearer  \r\n",
        f"Authorization: {key}\r\n",
        bearer(f"{key} {key}"),
        bearer(f"{key},{key}"),
        bearer("ppk_\u00e9" + "x" * 40),
        bearer("ppk_" + "x" * 5000),
        bearer("' OR '1'='1"),
    ):
        check_refused(await as_it_is(world, request, headers), AuthenticationError)


async def test_the_same_key_twice_is_that_key(world: World) -> None:
    request = Request("GET", "/v1/organizations")
    key = world.client.key
    twice = f"Authorization: Bearer {key}\r\nauthorization: bearer {key}\r\nx-api-key: {key}\r\n"
    assert (await as_it_is(world, request, twice)).status == HTTPStatus.OK


@pytest.mark.parametrize("operation", WRITES, ids=name)
async def test_an_idempotency_key_that_is_none_is_400(world: World, operation: Operation) -> None:
    request = await world.request(operation, world.a)
    before = await world.everything()
    for values in (["a", "b"], ["a", "a"], ["x" * 201], [""], ["\u00e9"], ["a\tb"], ["\x80"]):
        headers = "".join(f"{edge.IDEMPOTENCY_HEADER}: {value}\r\n" for value in values)
        check_refused(await as_it_is(world, request, headers), InvalidRequestError)
    assert await world.everything() == before


@pytest.mark.parametrize("operation", WITH_A_BODY, ids=name)
async def test_a_body_in_another_type_charset_or_encoding_is_415(
    world: World, operation: Operation
) -> None:
    request = await world.request(operation, world.a)
    before = await world.everything()
    body = json.dumps(request.body).encode()
    length = f"Content-Length: {len(body)}\r\n"
    for value in (
        "text/plain", "text/json", "application/x-www-form-urlencoded", "application/jsonx",
        "multipart/form-data; boundary=x", "application/json, text/html", "json", ";", "",
        "application/json; charset=utf-16", "application/json;charset=latin-1",
        'application/json; charset="us-ascii"',
    ):  # fmt: skip
        answer = await as_it_is(world, request, f"Content-Type: {value}\r\n{length}", body)
        check_refused(answer, UnsupportedMediaTypeError)
    json_type = f"Content-Type: {JSON}\r\n"
    for headers in (
        "Content-Type: text/plain\r\nContent-Type: application/json\r\n",
        "Content-Type: application/json\r\nContent-Type: text/plain\r\n",
        f"{json_type}Content-Encoding: gzip\r\n",
        f"{json_type}Content-Encoding: deflate\r\n",
        f"{json_type}Content-Encoding: identity\r\nContent-Encoding: x\r\n",
        f"{json_type}Content-Encoding: x-unknown\r\n",
    ):
        answer = await as_it_is(world, request, headers + length, body)
        check_refused(answer, UnsupportedMediaTypeError, InvalidRequestError)
    assert await world.everything() == before


@pytest.mark.parametrize("operation", WITH_A_BODY, ids=name)
async def test_json_in_utf_8_may_say_so(world: World, operation: Operation) -> None:
    for value in ("application/json; charset=UTF-8", 'Application/JSON;charset="utf-8"', JSON):
        request = await world.request(operation, world.a)
        body = json.dumps(request.body).encode()
        headers = f"Content-Type: {value}\r\nContent-Length: {len(body)}\r\n"
        assert (await as_it_is(world, request, headers, body)).status == operation.status


# Sizes


@pytest.mark.parametrize("operation", WITH_A_BODY, ids=name)
async def test_a_body_in_chunks_over_the_limit_is_413(world: World, operation: Operation) -> None:
    request = await world.request(operation, world.a)
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    body = chunk * (BODY_BYTES_MAX // 0x10000 + 1)
    headers = f"Content-Type: {JSON}\r\nTransfer-Encoding: chunked\r\n"
    check_refused(await as_it_is(world, request, headers, body), PayloadTooLargeError)


@pytest.mark.parametrize("operation", WITH_A_BODY, ids=name)
async def test_a_chunk_that_is_none_after_one_that_is_is_400(
    world: World, operation: Operation
) -> None:
    request = await world.request(operation, world.a)
    headers = f"Content-Type: {JSON}\r\nTransfer-Encoding: chunked\r\n"
    answer = await as_it_is(world, request, headers, b"2\r\n{}\r\nzz")
    check_refused(answer, InvalidRequestError)


async def test_a_body_that_grows_when_it_is_unpacked_takes_neither_memory_nor_time(
    web: WebProcess,
) -> None:
    body = bomb()
    port = urlsplit(web.url).port
    assert port is not None
    assert (await send_raw(port, "GET /healthz HTTP/1.1")).status == HTTPStatus.OK
    memory, seconds = memory_peak(web), processor_seconds(web)
    for path, encoding in itertools.product(BOMBED, ("gzip", "deflate")):
        for framing in (f"Content-Length: {len(body)}", "Transfer-Encoding: chunked"):
            sent = body if "Length" in framing else b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
            headers = f"Content-Encoding: {encoding}\r\n{framing}\r\n".encode()
            answer = await send_raw(port, f"POST {path} HTTP/1.1", sent, headers=headers)
            check_refused(answer, AuthenticationError, UnsupportedMediaTypeError)
    # A request behind all of them: by then each has been read to its end.
    assert (await send_raw(port, "GET /healthz HTTP/1.1")).status == HTTPStatus.OK
    assert memory_peak(web) - memory < 16 * BODY_BYTES_MAX
    assert processor_seconds(web) - seconds < 1


BOMBED = ("/v1/organizations", "/v1/billing/acme/holds", "/v1/webhooks/stripe")


def bomb() -> bytes:
    """Return less than a megabyte of gzip that unpacks to 900: a million blanks, over and over."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    blanks = b" " * 10**6
    head = packer.compress(blanks) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(blanks) + packer.flush(zlib.Z_FULL_FLUSH)
    found = head + block * 900
    assert len(found) < BODY_BYTES_MAX
    return found


def processor_seconds(process: WebProcess) -> float:
    """Return how long a process has been at work."""
    found = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2]
    user, system = found.split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def memory_peak(process: WebProcess) -> int:
    """Return the most bytes that a process has ever had in memory."""
    lines = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines()
    (peak,) = (line for line in lines if line.startswith("VmHWM"))
    return int(peak.split()[1]) * 1024
