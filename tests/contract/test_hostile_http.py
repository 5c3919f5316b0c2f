"""What is hardly HTTP, sent to a real process: refused, without memory, and nothing smuggled."""

from __future__ import annotations

import asyncio
import itertools
import time
from pathlib import Path

import aiohttp
import pytest

from sandbox.product import WebProcess
from shared.http.body import BODY_BYTES_MAX
from tests.fixtures.product import Answer, read_answer

GIBIBYTE = 1024**3
PATH = "/v1/webhooks/stripe"
HEADERS = [
    "Accept", "Authorization", "Connection", "Content-Length", "Content-Type", "Cookie", "Expect",
    "Host", "Idempotency-Key", "Prepaid-Version", "Stripe-Signature", "Transfer-Encoding",
    "X-Api-Key", "X-Forwarded-For", "X-Request-Id",
]  # fmt: skip
ENDLESS = [
    b"".join(b"X-%d: x\r\n" % number for number in range(20_000)),
    b"X-Long: " + b"x" * 10**6 + b"\r\n",
    b"x" * 10**6 + b": x\r\n",
]
# What two servers in a row may take for the ends of different requests.
SMUGGLED = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
FRAMINGS = [
    b"Content-Length: 44\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 44\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding: chunked, identity\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n",
    b"X: y\r\n Transfer-Encoding: chunked\r\n",
    b"Content-Length: 0\r\nContent-Length: 44\r\n",
    b"Content-Length: +44\r\n",
    b"Content-Length: 0x2c\r\n",
    b"Content-Length: 44, 0\r\n",
    b"Content-Length : 44\r\n",
    b"Content-Length: 44\nX: y\r\n",
]


def port(web: WebProcess) -> int:
    return int(web.url.rsplit(":", 1)[1])


def memory_now(web: WebProcess) -> int:
    """Return how many bytes a process has in memory."""
    pages = Path(f"/proc/{web.pid}/statm").read_text(encoding="utf-8").split()[1]
    return int(pages) * 4096


async def conversation(web: WebProcess, sent: bytes) -> list[Answer]:
    """Send bytes over one connection; return every answer until it is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port(web))
    writer.write(sent)
    answers = []
    try:
        while True:
            answers.append(await read_answer(reader))
    except (asyncio.IncompleteReadError, ConnectionError):
        return answers
    finally:
        writer.close()


async def test_a_body_of_2_gib_in_chunks_is_refused_at_the_limit_and_fills_no_memory(
    web: WebProcess,
) -> None:
    chunk = b"%x\r\n%s\r\n" % (BODY_BYTES_MAX, b"x" * BODY_BYTES_MAX)
    before = memory_now(web)
    reader, writer = await asyncio.open_connection("127.0.0.1", port(web))
    signed = f"Stripe-Signature: t={int(time.time())},v1={'0' * 64}"
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n{signed}\r\n\r\n"
    writer.write(head.encode())
    sent = 0

    async def send() -> None:
        nonlocal sent
        while sent < 2 * GIBIBYTE:
            writer.write(chunk)
            await writer.drain()
            sent += BODY_BYTES_MAX

    sending = asyncio.create_task(send())
    answer = await read_answer(reader)
    assert (answer.status, answer.headers["Connection"]) == (413, "close")
    with pytest.raises(ConnectionError):
        await sending
    assert sent < 2 * GIBIBYTE
    assert memory_now(web) - before < 16 * BODY_BYTES_MAX
    writer.close()


async def test_headers_without_end_or_with_a_nul_are_refused_and_fill_no_memory(
    web: WebProcess,
) -> None:
    head = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
    before = memory_now(web)
    for headers in ENDLESS:
        for _ in range(3):
            statuses = [a.status for a in await conversation(web, head + headers + b"\r\n")]
            assert statuses in ([400], [])  # its end may be reset before the answer is read
    for name in HEADERS:
        sent = f"POST {PATH} HTTP/1.1\r\nHost: x\r\n{name}: a\0b\r\n\r\n".encode()
        (answer,) = await conversation(web, sent)
        assert answer.status == 400, name
    assert memory_now(web) - before < 16 * BODY_BYTES_MAX


async def test_no_request_is_smuggled_in_a_body_whose_end_is_in_doubt(
    web: WebProcess, subtests: pytest.Subtests
) -> None:
    for framing, rest in itertools.product(FRAMINGS, (SMUGGLED, b"0\r\n\r\n" + SMUGGLED)):
        with subtests.test(framing.decode("latin-1")):
            head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\n".encode() + framing + b"\r\n"
            answers = await conversation(web, head + rest)
            assert [answer.status for answer in answers] == [400]
    good = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    answers = await conversation(web, good + b"\x16\x03\x01 garbage\r\n\r\n" + good)
    assert answers[-1].status == 400


async def test_thousands_of_requests_at_once_on_one_connection_fill_no_memory(
    web: WebProcess, client: aiohttp.ClientSession
) -> None:
    before = memory_now(web)
    _, writer = await asyncio.open_connection("127.0.0.1", port(web))
    # Their answers are never read.
    writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 5_000)
    for _ in range(20):
        async with client.get(f"{web.url}/healthz") as response:
            assert response.status == 200
    assert memory_now(web) - before < 16 * BODY_BYTES_MAX
    writer.transport.abort()
