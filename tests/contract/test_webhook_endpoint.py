"""POST /v1/webhooks/stripe, line by line of what is promised."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import asyncpg
import pytest

from sandbox.signed_events import event, signature
from shared.db.pool import create_pool
from shared.http import body as http_body
from shared.http.body import BODY_BYTES_MAX
from shared.queue.connection import connect as connect_redis
from shared.queue.wakeup import Wakeup
from tests.fixtures.product import (
    SECRET_NEW,
    SECRET_OLD,
    Answer,
    Endpoint,
    Serve,
    closed_port,
    event_row,
    event_states,
    payment,
    until,
)

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

PATH = "/v1/webhooks/stripe"
DEPTH = 100_000
BODY = payment("1")


def assert_envelope(answer: Answer, status: int, kind: str) -> None:
    assert (answer.status, answer.json["code"]) == (status, status)
    assert answer.json["type"] == kind
    assert isinstance(answer.json["detail"], str)
    assert answer.json["detail"]
    assert set(answer.json) == {"code", "type", "detail"}
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.headers["X-Request-Id"]


def assert_refused(answer: Answer) -> None:
    assert_envelope(answer, 400, "invalid_request_error")


async def stored(pool: Pool) -> int:
    count: int = await pool.fetchval("SELECT count(*) FROM stripe_events")
    return count


def with_field(name: str, literal: str) -> bytes:
    """Return an event with one more field, given as the JSON text itself."""
    return BODY.rstrip()[:-1] + f', "{name}": {literal}}}'.encode()


def of_size(size: int) -> bytes:
    body = event("1", "payment_intent.succeeded", {"padding": ""})
    return body.replace(b'"padding": ""', b'"padding": "%s"' % (b"x" * (size - len(body))))


async def test_a_signed_event_is_answered_after_it_is_in_postgresql(
    endpoint: Endpoint, pool: Pool
) -> None:
    answer = await endpoint.deliver(BODY)
    assert answer.status == 200
    assert answer.json == {"received": True, "eventId": "evt_1", "duplicate": False}
    row = await event_row(pool, "evt_1")
    assert (row["state"], row["attempts"], row["type"]) == (
        "received",
        0,
        "payment_intent.succeeded",
    )
    assert row["payload"] == BODY.decode()


async def test_the_doorbell_rings_once_an_event_is_stored(endpoint: Endpoint) -> None:
    await endpoint.deliver(BODY)
    assert len(endpoint.wakeups) == 1


async def test_a_duplicate_does_not_ring(endpoint: Endpoint) -> None:
    await endpoint.deliver(BODY)
    await endpoint.deliver(BODY)
    assert len(endpoint.wakeups) == 1


async def test_every_delivery_of_an_event_but_the_first_is_a_duplicate(
    endpoint: Endpoint, pool: Pool
) -> None:
    answers = [await endpoint.deliver(BODY) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert [answer.json["duplicate"] for answer in answers] == [False, True, True]
    assert await stored(pool) == 1


async def test_of_deliveries_at_once_exactly_one_is_not_a_duplicate(
    endpoint: Endpoint, pool: Pool
) -> None:
    answers = await asyncio.gather(*(endpoint.deliver(BODY) for _ in range(20)))
    assert {answer.status for answer in answers} == {200}
    assert [answer.json["duplicate"] for answer in answers].count(False) == 1
    assert await stored(pool) == 1


async def test_a_redelivery_with_other_bytes_keeps_what_came_first(
    endpoint: Endpoint, pool: Pool
) -> None:
    await endpoint.deliver(BODY)
    answer = await endpoint.deliver(payment("1", amount=999_999))
    assert answer.json["duplicate"] is True
    assert (await event_row(pool, "evt_1"))["payload"] == BODY.decode()


async def test_the_answer_carries_the_callers_request_id_and_the_row_keeps_it(
    endpoint: Endpoint, pool: Pool
) -> None:
    headers = {"Stripe-Signature": signature(BODY, SECRET_NEW), "X-Request-Id": "caller-1"}
    answer = await endpoint.post(BODY, headers)
    assert answer.headers["X-Request-Id"] == "caller-1"
    assert (await event_row(pool, "evt_1"))["request_id"] == "caller-1"


@pytest.mark.parametrize("hostile", ["x" * 65, "a b", 'a"b', "ä"])
async def test_a_request_id_that_could_harm_a_log_is_replaced(
    endpoint: Endpoint, hostile: str
) -> None:
    headers = {"Stripe-Signature": signature(BODY, SECRET_NEW), "X-Request-Id": hostile}
    answer = await endpoint.post(BODY, headers)
    assert answer.status == 200
    assert answer.headers["X-Request-Id"].startswith("req_")


async def test_each_request_without_an_id_gets_one_of_its_own(endpoint: Endpoint) -> None:
    ids = {(await endpoint.deliver(BODY)).headers["X-Request-Id"] for _ in range(5)}
    assert len(ids) == 5


# Signatures


async def test_a_missing_signature_is_refused(endpoint: Endpoint, pool: Pool) -> None:
    assert_refused(await endpoint.post(BODY))
    assert await stored(pool) == 0


NOW = int(time.time())
GOOD = signature(BODY, SECRET_NEW).split("v1=")[1]


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("", id="empty"),
        pytest.param(" ", id="blank"),
        pytest.param("v1", id="no equals sign"),
        pytest.param("t", id="only a letter"),
        pytest.param(",,,", id="only commas"),
        pytest.param("===", id="only equals signs"),
        pytest.param("t=,v1=", id="empty parts"),
        pytest.param(f"t={NOW}", id="no signature"),
        pytest.param(f"v1={GOOD}", id="no timestamp"),
        pytest.param(f"t={NOW},v1=", id="empty signature"),
        pytest.param(f"t=x,v1={GOOD}", id="timestamp in words"),
        pytest.param(f"t={'9' * 5000},v1={GOOD}", id="timestamp of 5,000 digits"),
        pytest.param(f"t={'9' * 300},v1={GOOD}", id="timestamp of 300 digits"),
        pytest.param(f"t=1e9,v1={GOOD}", id="timestamp with an exponent"),
        pytest.param(f"t=-1,v1={GOOD}", id="negative timestamp"),
        pytest.param(f"t=nan,v1={GOOD}", id="timestamp not a number"),
        pytest.param(f"t={NOW},v1={'0' * 64}", id="wrong signature"),
        pytest.param(f"t={NOW},v1={GOOD[:-1]}", id="truncated signature"),
        pytest.param(f"t={NOW},v0={GOOD}", id="another scheme"),
        pytest.param(f"t={NOW},v1=ä", id="signature not ASCII"),
        pytest.param(f"t={NOW},v1=\N{FULLWIDTH DIGIT ONE}", id="wide digit"),
        pytest.param(SECRET_NEW, id="the secret itself"),
    ],
)
async def test_a_malformed_signature_is_refused(
    endpoint: Endpoint, pool: Pool, header: str
) -> None:
    assert_refused(await endpoint.post(BODY, {"Stripe-Signature": header}))
    assert await stored(pool) == 0


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\xff\xfe\xfd", id="not UTF-8"),
        pytest.param(b"t=%d,v1=\xe4" % NOW, id="Latin-1"),
        pytest.param(b"t=%d,v1=\xed\xa0\x80" % NOW, id="lone surrogate"),
        pytest.param(b"t=\xd9\xa1,v1=" + GOOD.encode(), id="Arabic digit"),
        pytest.param(b"t=%d,v1=%s\xff" % (NOW, GOOD.encode()), id="a byte behind a signature"),
    ],
)
async def test_bytes_in_the_signature_that_are_not_ascii_are_refused(
    endpoint: Endpoint, pool: Pool, raw: bytes
) -> None:
    headers = b"Stripe-Signature: %s\r\nContent-Length: %d\r\n" % (raw, len(BODY))
    assert_refused(await endpoint.send_raw(f"POST {PATH} HTTP/1.1", BODY, headers=headers))
    assert await stored(pool) == 0


async def test_a_signature_of_another_secret_is_refused(endpoint: Endpoint, pool: Pool) -> None:
    assert_refused(await endpoint.deliver(BODY, secret="whsec_test_other"))
    assert await stored(pool) == 0


async def test_a_signature_of_another_body_is_refused(endpoint: Endpoint, pool: Pool) -> None:
    header = {"Stripe-Signature": signature(BODY, SECRET_NEW)}
    assert_refused(await endpoint.post(payment("1", amount=999_999), header))
    assert await stored(pool) == 0


async def test_a_signature_does_not_hold_for_another_timestamp(endpoint: Endpoint) -> None:
    moment = int(time.time())
    digest = signature(BODY, SECRET_NEW, moment).split("v1=")[1]
    assert_refused(await endpoint.post(BODY, {"Stripe-Signature": f"t={moment - 1},v1={digest}"}))


@pytest.mark.parametrize("secret", [SECRET_NEW, SECRET_OLD])
async def test_both_secrets_are_taken_while_one_rotates(endpoint: Endpoint, secret: str) -> None:
    assert (await endpoint.deliver(BODY, secret=secret)).status == 200


async def test_one_good_signature_among_several_in_one_header_is_enough(
    endpoint: Endpoint,
) -> None:
    moment = int(time.time())
    good = signature(BODY, SECRET_NEW, moment).split("v1=")[1]
    header = f"t={moment},v1={'0' * 64},v1={good},v0={'1' * 64}"
    assert (await endpoint.post(BODY, {"Stripe-Signature": header})).status == 200


async def test_several_wrong_signatures_in_one_header_are_refused(endpoint: Endpoint) -> None:
    header = f"t={int(time.time())}," + ",".join(f"v1={n:064x}" for n in range(20))
    assert_refused(await endpoint.post(BODY, {"Stripe-Signature": header}))


async def test_a_second_timestamp_cannot_make_an_old_delivery_young(endpoint: Endpoint) -> None:
    old = int(time.time()) - 3600
    header = f"{signature(BODY, SECRET_NEW, old)},t={int(time.time())}"
    assert_refused(await endpoint.post(BODY, {"Stripe-Signature": header}))


async def test_a_young_timestamp_before_the_signed_one_is_refused(endpoint: Endpoint) -> None:
    old = int(time.time()) - 3600
    header = f"t={int(time.time())},{signature(BODY, SECRET_NEW, old)}"
    assert_refused(await endpoint.post(BODY, {"Stripe-Signature": header}))


@pytest.mark.parametrize(("first", "status"), [(SECRET_NEW, 200), ("whsec_test_other", 400)])
async def test_of_several_signature_headers_the_first_counts(
    endpoint: Endpoint, first: str, status: int
) -> None:
    second = SECRET_NEW if first != SECRET_NEW else "whsec_test_other"
    headers = "".join(
        f"Stripe-Signature: {signature(BODY, secret)}\r\n" for secret in (first, second)
    )
    answer = await endpoint.send_raw(
        f"POST {PATH} HTTP/1.1",
        BODY,
        headers=f"{headers}Content-Length: {len(BODY)}\r\n".encode(),
    )
    assert answer.status == status


@pytest.mark.parametrize("seconds", [301, -301, 86_400, -86_400])
async def test_a_timestamp_more_than_300_seconds_away_is_refused(
    serve: Serve, pool: Pool, seconds: int
) -> None:
    endpoint = await serve(pool, unix_now=lambda: NOW)
    assert_refused(await endpoint.deliver(BODY, timestamp=NOW - seconds))
    assert await stored(pool) == 0


@pytest.mark.parametrize("seconds", [300, 299, 0, -299, -300])
async def test_a_timestamp_up_to_300_seconds_away_is_accepted(
    serve: Serve, pool: Pool, seconds: int
) -> None:
    endpoint = await serve(pool, unix_now=lambda: NOW)
    assert (await endpoint.deliver(BODY, timestamp=NOW - seconds)).status == 200


# Bodies


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


# Paths and methods


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_another_method_is_405_and_names_the_one_that_is_allowed(
    endpoint: Endpoint, method: str
) -> None:
    async with endpoint.client.request(method, endpoint.url) as response:
        answer = Answer(response.status, response.headers, await response.read())
    assert_envelope(answer, 405, "invalid_request_error")
    assert answer.headers["Allow"] == "POST"


@pytest.mark.parametrize("path", ["/", "/v1/webhooks", f"{PATH}/", "/v1/webhooks/%00"])
async def test_an_unknown_path_is_404(endpoint: Endpoint, path: str) -> None:
    answer = await endpoint.send_raw(f"GET {path} HTTP/1.1")
    assert_envelope(answer, 404, "not_found_error")


# Whose event it is


async def test_a_type_that_prepaid_does_not_know_is_accepted(
    endpoint: Endpoint, pool: Pool
) -> None:
    body = event("1", "customer.tax_id.created", {"id": "txi_1"})
    assert (await endpoint.deliver(body)).status == 200
    assert await event_states(pool) == {"evt_1": "received"}


async def test_an_event_of_the_other_mode_is_stored_in_quarantine(
    endpoint: Endpoint, pool: Pool
) -> None:
    answer = await endpoint.deliver(with_field("livemode", "true"))
    assert (answer.status, answer.json["duplicate"]) == (200, False)
    row = await event_row(pool, "evt_1")
    assert row["state"] == "quarantined"
    assert "live event" in row["reason"]


async def test_an_event_of_an_account_that_is_not_ours_is_stored_in_quarantine(
    endpoint: Endpoint, pool: Pool
) -> None:
    answer = await endpoint.deliver(with_field("account", '"acct_foreign"'))
    assert (answer.status, answer.json["duplicate"]) == (200, False)
    row = await event_row(pool, "evt_1")
    assert (row["state"], row["account"]) == ("quarantined", "acct_foreign")
    assert "acct_foreign" in row["reason"]


async def test_an_event_of_an_account_that_is_listed_is_received(serve: Serve, pool: Pool) -> None:
    endpoint = await serve(pool, PREPAID_STRIPE_ACCOUNTS="acct_other,acct_ours")
    await endpoint.deliver(with_field("account", '"acct_ours"'))
    assert await event_states(pool) == {"evt_1": "received"}


async def test_an_id_is_another_event_in_another_account_or_mode(
    endpoint: Endpoint, pool: Pool
) -> None:
    bodies = [BODY, with_field("livemode", "true"), with_field("account", '"acct_foreign"')]
    answers = [await endpoint.deliver(body) for body in bodies]
    assert [answer.json["duplicate"] for answer in answers] == [False, False, False]
    assert await stored(pool) == 3


# Servers away


async def test_while_postgresql_is_away_stripe_is_asked_to_send_again(serve: Serve) -> None:
    async with away() as pool:
        endpoint = await serve(pool)
        answer = await endpoint.deliver(BODY)
    assert_envelope(answer, 503, "internal_error")
    assert int(answer.headers["Retry-After"]) > 0
    assert endpoint.wakeups == []


async def test_a_bad_signature_is_400_whether_or_not_postgresql_is_there(serve: Serve) -> None:
    async with away() as pool:
        assert_refused(await (await serve(pool)).deliver(BODY, secret="whsec_test_other"))


async def test_postgresql_ending_our_sessions_is_503_or_served_and_then_recovers(
    endpoint: Endpoint, pool: Pool, database_url: str
) -> None:
    await endpoint.deliver(BODY)
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await connection.close()
    first = await endpoint.deliver(payment("2"))
    assert first.status in {200, 503}
    assert (await endpoint.deliver(payment("2"))).status == 200
    assert await stored(pool) == 2


def away() -> Pool:
    return create_pool(
        f"postgresql://prepaid@127.0.0.1:{closed_port()}/prepaid", size=2, application_name="tests"
    )


async def test_while_redis_is_away_events_are_still_accepted(serve: Serve, pool: Pool) -> None:
    redis = connect_redis(f"redis://127.0.0.1:{closed_port()}/0")
    endpoint = await serve(pool, send_wakeup=Wakeup(redis).send)
    answers = [await endpoint.deliver(payment(str(n))) for n in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert await stored(pool) == 3
    await redis.aclose()


async def events_are_waited_for(connection: Connection) -> bool:
    """Return whether a statement waits for the lock of the inbox's table."""
    waiting: bool = await connection.fetchval(
        "SELECT count(*) > 0 FROM pg_locks"
        " WHERE relation = 'stripe_events'::regclass AND NOT granted"
    )
    return waiting


async def test_a_client_that_goes_away_does_not_take_the_commit_with_it(
    serve: Serve, pool: Pool
) -> None:
    woken = asyncio.Event()
    endpoint = await serve(pool, send_wakeup=woken.set)
    async with pool.acquire() as blocker, blocker.transaction():
        await blocker.execute("LOCK TABLE stripe_events IN ACCESS EXCLUSIVE MODE")
        delivery = asyncio.create_task(endpoint.deliver(BODY))
        await until(lambda: events_are_waited_for(blocker))
        delivery.cancel()
        await asyncio.wait({delivery})
    await woken.wait()
    assert await event_states(pool) == {"evt_1": "received"}


async def test_nothing_is_answered_before_the_commit(endpoint: Endpoint, pool: Pool) -> None:
    async with pool.acquire() as blocker, blocker.transaction():
        await blocker.execute("LOCK TABLE stripe_events IN ACCESS EXCLUSIVE MODE")
        delivery = asyncio.create_task(endpoint.deliver(BODY))
        await until(lambda: events_are_waited_for(blocker))
        assert not delivery.done()
        assert endpoint.wakeups == []
    assert (await delivery).status == 200


async def test_an_answer_is_json_that_any_client_reads(endpoint: Endpoint) -> None:
    answer = await endpoint.deliver(BODY)
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8" or (
        answer.headers["Content-Type"] == "application/json"
    )
    assert json.loads(answer.body.decode("ascii"))["received"] is True


async def test_a_hung_up_body_is_no_outage_of_postgresql(
    endpoint: Endpoint, pool: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
    head += f"Stripe-Signature: {signature(BODY, SECRET_NEW)}\r\n\r\n"
    writer.write(head.encode() + b"{")
    await writer.drain()
    await endpoint.deliver(BODY)
    writer.transport.abort()
    await endpoint.deliver(BODY)
    await endpoint.deliver(BODY)
    captured = capsys.readouterr()
    assert "postgres.unavailable" not in captured.out + captured.err
