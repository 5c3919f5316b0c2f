"""What the webhook endpoint refuses before it reads, and how many large bodies it reads at once."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from sandbox.signed_events import event, signature
from shared.errors import InvalidRequestError
from shared.http.body import BODY_BYTES_MAX, SMALL_BODY_BYTES_MAX
from tests.fixtures.operation_requests import check_refused
from tests.fixtures.product import (
    SECRET_NEW,
    Endpoint,
    Serve,
    event_states,
    payment,
    read_answer,
)
from webhooks import endpoint as webhook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.db.pool import Pool

PATH = "/v1/webhooks/stripe"
NOW = int(time.time())
DIGEST = "0" * 64


def large_event(name: str) -> bytes:
    return event(name, "payment_intent.succeeded", {"padding": "x" * (BODY_BYTES_MAX // 2)})


@asynccontextmanager
async def unfinished(
    port: int, *headers: str, length: int, body: bytes = b""
) -> AsyncIterator[asyncio.StreamReader]:
    """Send the head of a delivery and a part of its body; the rest never comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = [f"POST {PATH} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {length}", *headers]
    writer.write("\r\n".join([*head, "", ""]).encode() + body)
    await writer.drain()
    try:
        yield reader
    finally:
        writer.close()


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(None, id="none"),
        pytest.param("", id="empty"),
        pytest.param(f"t={NOW}", id="no signature"),
        pytest.param(f"v1={DIGEST}", id="no timestamp"),
        pytest.param(f"t={NOW},v1=short", id="no digest"),
        pytest.param(f"t={NOW},v0={DIGEST}", id="another scheme"),
        pytest.param(f"t={NOW - 301},v1={DIGEST}", id="old"),
        pytest.param(f"t={NOW + 301},v1={DIGEST}", id="of the future"),
    ],
)
async def test_r15_a_bad_signature_header_is_refused_before_the_body_is_read(
    serve: Serve, pool: Pool, header: str | None
) -> None:
    endpoint = await serve(pool, unix_now=lambda: NOW)
    headers = [] if header is None else [f"Stripe-Signature: {header}"]
    async with unfinished(endpoint.port, *headers, length=BODY_BYTES_MAX) as reader:
        answer = await read_answer(reader)
        check_refused(answer, InvalidRequestError)
        assert answer.headers["Connection"] == "close"


async def test_r15_a_length_over_the_limit_is_refused_before_the_body_is_read(
    endpoint: Endpoint,
) -> None:
    signed = f"Stripe-Signature: t={int(time.time())},v1={DIGEST}"
    async with unfinished(endpoint.port, signed, length=BODY_BYTES_MAX + 1) as reader:
        answer = await read_answer(reader)
        assert answer.status == 413
        assert answer.headers["Connection"] == "close"


@pytest.mark.parametrize("body", [b"[" * 100_000, b"{", b'{"object": "event"}'])
async def test_r15_the_signature_is_checked_before_any_json_is_parsed(
    endpoint: Endpoint, body: bytes
) -> None:
    answer = await endpoint.deliver(body, secret="whsec_test_other")
    check_refused(answer, InvalidRequestError)
    assert answer.json["detail"] == "The Stripe-Signature header does not match the body."


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_r15_large_bodies_take_turns_while_small_deliveries_go_on(
    endpoint: Endpoint, pool: Pool, framing: str
) -> None:
    signed = f"Stripe-Signature: t={int(time.time())},v1={DIGEST}"
    part = b"x" * (2 * SMALL_BODY_BYTES_MAX)
    body = large_event("large")
    sent = [body[:1000], body[1000:]]

    async def chunks() -> AsyncIterator[bytes]:
        for chunk in sent:
            yield chunk

    async with AsyncExitStack() as stack:
        for _ in range(webhook.LARGE_BODIES_AT_ONCE_MAX):
            await stack.enter_async_context(
                unfinished(endpoint.port, signed, length=BODY_BYTES_MAX, body=part)
            )
        header = {"Stripe-Signature": signature(body, SECRET_NEW)}
        data = body if framing == "length" else chunks()
        waiting = asyncio.create_task(endpoint.post(data, header))
        for number in range(3):
            assert (await endpoint.deliver(payment(str(number)))).status == 200
        assert not waiting.done()
    assert (await waiting).status == 200
    assert set(await event_states(pool)) == {"evt_0", "evt_1", "evt_2", "evt_large"}


async def test_r15_a_large_body_whose_turn_does_not_come_is_asked_to_come_back(
    serve: Serve, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "TURN_SECONDS_MAX", 0.05)
    endpoint = await serve(pool)
    signed = f"Stripe-Signature: t={int(time.time())},v1={DIGEST}"
    async with AsyncExitStack() as stack:
        for _ in range(webhook.LARGE_BODIES_AT_ONCE_MAX):
            await stack.enter_async_context(
                unfinished(endpoint.port, signed, length=BODY_BYTES_MAX)
            )
        answer = await endpoint.deliver(large_event("large"))
        assert (answer.status, answer.headers["Connection"]) == (503, "close")
        assert int(answer.headers["Retry-After"]) > 0
