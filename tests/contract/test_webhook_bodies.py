"""POST /v1/webhooks/stripe: which bodies are events, and how long, packed or slow they may be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from sandbox.signed_events import event, signature
from shared.http import body as http_body
from shared.http.body import BODY_BYTES_MAX
from tests.fixtures.product import SECRET_NEW, Answer, Endpoint, event_row, payment
from tests.fixtures.webhook_deliveries import (
    BODY,
    PATH,
    assert_envelope,
    assert_refused,
    stored,
    with_field,
)

if TYPE_CHECKING:
    from shared.db.pool import Pool

DEPTH = 100_000


def of_size(size: int) -> bytes:
    body = event("1", "payment_intent.succeeded", {"padding": ""})
    return body.replace(b'"padding": ""', b'"padding": "%s"' % (b"x" * (size - len(body))))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(BODY[: len(BODY) // 2], id="truncated"),
        pytest.param(BODY + b"}", id="something behind"),
        pytest.param(BODY + BODY, id="two events"),
        pytest.param(b"\xef\xbb\xbf" + BODY, id="byte order mark"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"[" + BODY + b"]", id="list of an event"),
        pytest.param(b'"event"', id="string"),
        pytest.param(b"1", id="number"),
        pytest.param(b"null", id="null"),
        pytest.param(b"true", id="boolean"),
        pytest.param(b"{}", id="empty object"),
        pytest.param(b"id=evt_1&object=event", id="form"),
        pytest.param(BODY.replace(b"usd", b"\xff\xff\xff"), id="not UTF-8"),
        pytest.param(BODY.replace(b"usd", b"\xed\xa0\x80"), id="surrogate in UTF-8"),
        pytest.param(BODY.decode().encode("utf-16"), id="UTF-16"),
        pytest.param(BODY.replace(b"usd", b"u\0d"), id="NUL in a string"),
        pytest.param(BODY + b"\0", id="NUL at the end"),
        pytest.param(b"\0" * 100, id="only NUL"),
        pytest.param(BODY.replace(b"usd", b"u\x01d"), id="control character in a string"),
        pytest.param(BODY.replace(b"usd", b"\\ud800"), id="escaped lone surrogate"),
        pytest.param(b"[" * DEPTH, id="100,000 brackets"),
        pytest.param(b'{"a":' * DEPTH, id="100,000 braces"),
        pytest.param(with_field("deep", "[" * DEPTH + "]" * DEPTH), id="100,000 levels"),
        pytest.param(BODY.replace(b'"event"', b'"payment_intent"'), id="another object"),
        pytest.param(BODY.replace(b'"evt_1"', b'""'), id="empty id"),
        pytest.param(BODY.replace(b'"evt_1"', b"1"), id="number as id"),
        pytest.param(BODY.replace(b'"evt_1"', b"null"), id="null as id"),
        pytest.param(BODY.replace(b'"evt_1"', b'"evt\\u0000"'), id="NUL in the id"),
        pytest.param(BODY.replace(b'"evt_1"', b'"evt\\n1"'), id="line break in the id"),
        pytest.param(BODY.replace(b'"evt_1"', b'"\\u00e4"'), id="id not ASCII"),
        pytest.param(BODY.replace(b'"evt_1"', b'"%s"' % (b"e" * 256)), id="id too long"),
        pytest.param(with_field("type", '""'), id="empty type"),
        pytest.param(with_field("type", "7"), id="number as type"),
        pytest.param(with_field("type", '"a\\u0000b"'), id="NUL in the type"),
        pytest.param(with_field("account", '"acct\\u0000"'), id="NUL in the account"),
        pytest.param(with_field("api_version", '"\\u0000"'), id="NUL in the API version"),
        pytest.param(with_field("livemode", '"false"'), id="string as livemode"),
        pytest.param(with_field("created", "1e400"), id="created infinite"),
        pytest.param(with_field("created", "9" * 400), id="created of 400 digits"),
        pytest.param(with_field("created", "-1"), id="created negative"),
        pytest.param(with_field("created", "253402300800"), id="created after 9999"),
        pytest.param(with_field("created", '"now"'), id="created in words"),
        pytest.param(with_field("created", "1.5"), id="created with a fraction"),
        pytest.param(with_field("created", "null"), id="created null"),
    ],
)
async def test_a_signed_body_that_is_not_an_event_is_refused(
    endpoint: Endpoint, pool: Pool, body: bytes
) -> None:
    assert_refused(await endpoint.deliver(body))
    assert await stored(pool) == 0


@pytest.mark.parametrize(
    "literal",
    [
        pytest.param('"a\\u0000b"', id="escaped NUL"),
        pytest.param('{"\\u0000": 1}', id="escaped NUL as a key"),
        pytest.param("1e400", id="number over every float"),
        pytest.param("9" * 400, id="integer of 400 digits"),
        pytest.param("-" + "9" * 400, id="negative integer of 400 digits"),
        pytest.param("0." + "1" * 400, id="400 decimals"),
        pytest.param('"\\ud83d\\ude00"', id="escaped pair of surrogates"),
        pytest.param('"\U0001f600 ä \u2028"', id="beyond ASCII"),
        pytest.param("[" * 500 + "]" * 500, id="500 levels"),
        pytest.param('"<script>\'; DROP TABLE stripe_events; --"', id="SQL"),
    ],
)
async def test_what_prepaid_does_not_read_is_stored_as_it_was_sent(
    endpoint: Endpoint, pool: Pool, literal: str
) -> None:
    body = with_field("extra", literal)
    assert (await endpoint.deliver(body)).status == 200
    assert (await event_row(pool, "evt_1"))["payload"] == body.decode()


async def test_the_longest_id_is_accepted(endpoint: Endpoint, pool: Pool) -> None:
    longest = "evt_" + "x" * 251
    body = BODY.replace(b"evt_1", longest.encode())
    assert (await endpoint.deliver(body)).json["eventId"] == longest
    assert await event_row(pool, longest)


async def test_one_refused_body_leaves_the_deliveries_beside_it_unharmed(
    endpoint: Endpoint, pool: Pool
) -> None:
    hostile = BODY.replace(b'"evt_1"', b'"evt\\u0000"')
    answers = await asyncio.gather(
        *(endpoint.deliver(payment(str(n))) for n in range(10)),
        endpoint.deliver(hostile),
        *(endpoint.deliver(payment(str(n))) for n in range(10, 20)),
    )
    assert sorted(answer.status for answer in answers) == [200] * 20 + [400]
    assert await stored(pool) == 20


# Sizes, chunks and time


async def test_a_body_of_exactly_1_mib_is_accepted(endpoint: Endpoint, pool: Pool) -> None:
    body = of_size(BODY_BYTES_MAX)
    assert len(body) == 1024 * 1024
    assert (await endpoint.deliver(body)).status == 200
    assert len((await event_row(pool, "evt_1"))["payload"]) == 1024 * 1024


@pytest.mark.parametrize("size", [1024 * 1024 + 1, 2 * 1024 * 1024])
async def test_a_body_over_1_mib_is_413(endpoint: Endpoint, pool: Pool, size: int) -> None:
    assert_envelope(await endpoint.deliver(of_size(size)), 413, "invalid_request_error")
    assert await stored(pool) == 0


async def in_chunks(body: bytes, size: int = 65_536) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


async def deliver_in_chunks(endpoint: Endpoint, body: bytes, size: int = 65_536) -> Answer:
    return await endpoint.post(
        in_chunks(body, size), {"Stripe-Signature": signature(body, SECRET_NEW)}
    )


@pytest.mark.parametrize("size", [7, 65_536])
async def test_a_body_in_chunks_is_accepted(endpoint: Endpoint, pool: Pool, size: int) -> None:
    assert (await deliver_in_chunks(endpoint, BODY, size)).status == 200
    assert (await event_row(pool, "evt_1"))["payload"] == BODY.decode()


async def test_1_mib_in_chunks_is_accepted(endpoint: Endpoint) -> None:
    assert (await deliver_in_chunks(endpoint, of_size(1024 * 1024))).status == 200


@pytest.mark.parametrize("size", [1024 * 1024 + 1, 2 * 1024 * 1024])
async def test_over_1_mib_in_chunks_is_413(endpoint: Endpoint, pool: Pool, size: int) -> None:
    body = of_size(size)
    head = f"POST {PATH} HTTP/1.1"
    headers = f"Stripe-Signature: {signature(body, SECRET_NEW)}\r\nTransfer-Encoding: chunked\r\n"
    parts = [b"%x\r\n%s\r\n" % (len(chunk), chunk) async for chunk in in_chunks(body)]
    answer = await endpoint.send_raw(head, *parts, b"0\r\n\r\n", headers=headers.encode())
    assert_envelope(answer, 413, "invalid_request_error")
    assert await stored(pool) == 0


@pytest.mark.parametrize(
    "headers", [b"Transfer-Encoding: chunked\r\n", b"Content-Length: 1000\r\n"]
)
async def test_a_body_that_never_ends_is_408(
    endpoint: Endpoint, pool: Pool, monkeypatch: pytest.MonkeyPatch, headers: bytes
) -> None:
    monkeypatch.setattr(http_body, "BODY_SECONDS_MAX", 0.05)
    signed = f"Stripe-Signature: {signature(BODY, SECRET_NEW)}\r\n".encode()
    answer = await endpoint.send_raw(
        f"POST {PATH} HTTP/1.1", b'5\r\n{"id"\r\n', headers=headers + signed
    )
    assert_envelope(answer, 408, "invalid_request_error")
    assert await stored(pool) == 0


async def test_other_deliveries_are_served_while_a_body_does_not_end(endpoint: Endpoint) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
    head += f"Stripe-Signature: {signature(BODY, SECRET_NEW)}\r\n\r\n"
    writer.write(head.encode() + b"{")
    try:
        assert (await endpoint.deliver(BODY)).status == 200
        assert not reader.at_eof()
    finally:
        writer.close()


async def test_a_chunk_that_is_not_one_is_400(endpoint: Endpoint, pool: Pool) -> None:
    headers = b"Stripe-Signature: t=1,v1=0\r\nTransfer-Encoding: chunked\r\n"
    answer = await endpoint.send_raw(
        f"POST {PATH} HTTP/1.1", b"zz\r\nnot a chunk\r\n", headers=headers
    )
    assert answer.status == 400
    assert await stored(pool) == 0


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
async def test_a_body_that_says_it_is_packed_is_415(
    endpoint: Endpoint, pool: Pool, encoding: str
) -> None:
    headers = {"Stripe-Signature": signature(BODY, SECRET_NEW), "Content-Encoding": encoding}
    answer = await endpoint.post(BODY, headers)
    assert_envelope(answer, 415, "invalid_request_error")
    assert await stored(pool) == 0
