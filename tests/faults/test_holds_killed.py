"""Holds when a process is killed with SIGKILL: used is charged once, and unused comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest_asyncio

from sandbox.product import WebProcess, WorkerProcess
from shared.access import service as access
from shared.organizations.model import Organization
from tests.fixtures.ledger import balances, grant, make_due, post
from tests.fixtures.pricing import activate_book
from tests.fixtures.product import environment, until

if TYPE_CHECKING:
    from shared.db.pool import Pool

BILLING = "/v1/billing/acme"
CALL = {"model": "gpt-4o", "measures": {"output_tokens": 500_000}}  # 5 credits
USED = {"measures": {"output_tokens": 200_000}, "transactionId": "call-1/used"}  # 2 credits


class Caller:
    """An app that sends requests to whichever web process runs."""

    def __init__(self, session: aiohttp.ClientSession, key: str) -> None:
        self.session = session
        self.headers = {"Authorization": f"Bearer {key}"}

    async def post(self, web: WebProcess, path: str, body: Any) -> tuple[int, Any, bool]:
        """Return the status, the answer, and whether it is a repeated one."""
        url = web.url + BILLING + path
        async with self.session.post(url, json=body, headers=self.headers) as response:
            replayed = "Idempotent-Replayed" in response.headers
            return response.status, await response.json(), replayed

    async def send(self, web: WebProcess, path: str, body: Any) -> asyncio.StreamWriter:
        """Send a request, and read no answer."""
        host, port = web.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        sent = json.dumps(body).encode()
        head = [f"POST {BILLING}{path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(sent)}"]
        head += ["Content-Type: application/json", *(f"{k}: {v}" for k, v in self.headers.items())]
        writer.write("\r\n".join([*head, "", ""]).encode() + sent)
        await writer.drain()
        return writer


@pytest_asyncio.fixture
async def caller(pool: Pool, organization: Organization, client: aiohttp.ClientSession) -> Caller:
    """Give the organization 20 credits, a price book and a key."""
    await post(pool, grant(organization, 20))
    await activate_book(pool)
    async with pool.acquire() as connection:
        made = await access.create_key(
            connection, name="app", scope="usage", organization_id=organization.id
        )
    return Caller(client, made["key"])


@pytest_asyncio.fixture
async def webs(
    database_url: str, redis_url: str, tmp_path: Path
) -> AsyncIterator[tuple[WebProcess, WebProcess]]:
    """Run two web processes; a test may kill the first."""
    env = environment(database_url, redis_url)
    first, second = (WebProcess(env, tmp_path / f"web-{n}.log") for n in range(2))
    await asyncio.gather(first.start(), second.start())
    yield first, second
    await asyncio.gather(first.stop(), second.stop())


async def captures(pool: Pool) -> list[Any]:
    rows = await pool.fetch("SELECT amount FROM credit_transactions WHERE type = 'hold_capture'")
    return [row["amount"] for row in rows]


async def test_usage_is_charged_once_when_web_is_killed_and_its_answer_is_lost(
    webs: tuple[WebProcess, WebProcess], caller: Caller, pool: Pool, organization: Organization
) -> None:
    first, second = webs
    status, hold, _ = await caller.post(first, "/holds", CALL | {"transactionId": "call-1"})
    assert (status, hold["amount"]) == (200, 5)
    capture = f"/holds/{hold['id']}/capture"
    part = USED | {"final": False}
    writer = await caller.send(first, capture, part)

    async def is_posted() -> bool:
        return await captures(pool) == [-2]

    await until(is_posted)
    first.kill()
    await first.wait()
    writer.close()
    # The caller knows neither its hold nor whether it was charged: it repeats both.
    status, again, replayed = await caller.post(
        second, "/holds", CALL | {"transactionId": "call-1"}
    )
    assert (status, again["id"], again["remaining"], replayed) == (200, hold["id"], 3, True)
    status, captured, replayed = await caller.post(second, capture, part)
    assert (status, captured["captureAmount"], replayed) == (200, 2, True)
    last = {"measures": {"output_tokens": 100_000}, "transactionId": "call-1/last"}
    for expected in (False, True):
        usage = CALL | last | {"holdId": hold["id"]}
        status, posted, replayed = await caller.post(second, "/usage", usage)
        assert (status, posted["transaction"]["amount"], replayed) == (200, -1, expected)
    assert await captures(pool) == [-2, -1]
    assert await balances(pool, organization) == (17, 0)


async def test_what_a_dead_caller_did_not_use_comes_back_while_the_worker_is_dead_too(
    web: WebProcess,
    caller: Caller,
    pool: Pool,
    organization: Organization,
    tmp_path: Path,
    database_url: str,
    redis_url: str,
) -> None:
    worker = WorkerProcess(environment(database_url, redis_url), tmp_path / "worker.log")
    await worker.start()
    await worker.wait_for_log("worker.ready")
    _, hold, _ = await caller.post(web, "/holds", CALL | {"expiresInSeconds": 600})
    await caller.post(web, f"/holds/{hold['id']}/capture", USED | {"final": False})
    worker.kill()
    await worker.wait()
    await make_due(pool, "holds", hold["id"])
    assert await balances(pool, organization) == (18, 0)
    late = {"measures": {"output_tokens": 100_000}, "transactionId": "call-1/late"}
    status, refused, _ = await caller.post(web, f"/holds/{hold['id']}/capture", late)
    assert (status, "expired at" in refused["detail"]) == (409, True)
    usage = CALL | late | {"onInsufficient": "overdraft"}
    posted = [await caller.post(web, "/usage", usage) for _ in range(2)]
    assert [replayed for _, _, replayed in posted] == [False, True]
    assert await balances(pool, organization) == (17, 0)
    _, other, _ = await caller.post(web, "/holds", CALL)
    await make_due(pool, "holds", other["id"])
    await worker.start()

    async def is_expired() -> bool:
        states = await pool.fetch("SELECT status FROM holds")
        return [row["status"] for row in states] == ["expired", "expired"]

    await until(is_expired)
    assert await pool.fetchval("SELECT held FROM accounts") == 0
    await worker.stop()
