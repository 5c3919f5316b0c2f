"""POST /v1/webhooks/stripe: what counts as Stripe's signature, and how old it may be."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from sandbox.signed_events import signature
from tests.fixtures.product import SECRET_NEW, SECRET_OLD, Endpoint, Serve, payment
from tests.fixtures.webhook_deliveries import BODY, PATH, assert_refused, stored

if TYPE_CHECKING:
    from shared.db.pool import Pool


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
