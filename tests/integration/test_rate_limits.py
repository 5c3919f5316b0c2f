"""How many requests a key may send: by a bucket that refills, over all processes together (R16)."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import aiohttp
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from api.framework import limits
from api.framework.limits import Limiter
from api.framework.rate import Rate
from sandbox.home import Home
from sandbox.product import WebProcess
from sandbox.signed_events import signature
from sandbox.valkey import EmbeddedValkey
from shared.access import service as access
from shared.config import load
from shared.errors import RateLimitError
from shared.organizations.model import Organization
from shared.queue.connection import connect
from tests.fixtures.api import ApiClient, serve_api
from tests.fixtures.operation_requests import check_refused
from tests.fixtures.product import (
    SECRET_NEW,
    closed_port,
    environment,
    payment,
)

if TYPE_CHECKING:
    from shared.db.pool import Pool

KEY, OTHER = UUID(int=1), UUID(int=2)
LIMIT = 6  # a full bucket holds six, and refills by one in ten seconds
HOUR = 3600


@dataclass
class Clock:
    now: float = 1_000_020.0

    def __call__(self) -> float:
        return self.now


@pytest_asyncio.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url)
    yield client
    await client.aclose(close_connection_pool=True)


def take(limiter: Limiter, times: int, key: UUID = KEY, units: int = 1) -> int:
    """Send so many requests; return how many were let in."""
    for sent in range(times):
        try:
            limiter.take(key, units)
        except RateLimitError:
            return sent
    return times


def wait_of(limiter: Limiter, units: int = 1) -> int:
    """Return for how long a request is sent away."""
    with pytest.raises(RateLimitError) as refused:
        limiter.take(KEY, units)
    wait = refused.value.retry_after_seconds
    assert wait is not None
    return wait


async def test_r16_a_bucket_refills_continuously(redis: Redis) -> None:
    clock = Clock()
    limiter = Limiter(redis, LIMIT, clock=clock)
    assert take(limiter, 9) == LIMIT
    assert take(limiter, 1, OTHER) == 1
    assert wait_of(limiter) == 10
    clock.now += 10
    assert take(limiter, 9) == 1
    clock.now += 30
    assert take(limiter, 9) == 3
    clock.now += HOUR
    assert take(limiter, 9) == LIMIT
    await limiter.close()


async def test_r16_a_request_that_costs_more_leaves_less(redis: Redis) -> None:
    clock = Clock()
    limiter = Limiter(redis, LIMIT, clock=clock)
    assert take(limiter, 9, units=4) == 1
    assert wait_of(limiter, units=4) == 20
    assert take(limiter, 9) == 2
    clock.now += HOUR
    # None costs more than a full bucket holds: it waits, and is served in the end.
    assert take(limiter, 9, units=1000) == 1
    clock.now += HOUR
    limiter.charge(KEY, 9)
    assert wait_of(limiter) == 10
    await limiter.close()


async def test_what_one_process_has_let_in_counts_in_the_others(redis: Redis) -> None:
    clock = Clock()
    first, second = Limiter(redis, LIMIT, clock=clock), Limiter(redis, LIMIT, clock=clock)
    assert take(first, 3) == 3
    await first.close()
    assert take(second, 1) == 1
    await second.close()
    assert take(second, 9) == 2
    await second.close()


async def test_r16_what_processes_let_in_side_by_side_is_paid_back(redis: Redis) -> None:
    clock = Clock()
    first, second = Limiter(redis, LIMIT, clock=clock), Limiter(redis, LIMIT, clock=clock)
    assert take(first, 9) == LIMIT
    await first.close()
    assert take(second, 9) == LIMIT  # it has not heard of the other yet
    await second.close()
    assert 60 < wait_of(second) <= 70
    await second.close()


async def test_without_redis_each_process_counts_for_itself() -> None:
    away = connect(f"redis://127.0.0.1:{closed_port()}/0")
    limiter = Limiter(away, LIMIT, clock=Clock())
    assert take(limiter, 9) == LIMIT
    await limiter.close()
    assert take(limiter, 1) == 0
    await away.aclose(close_connection_pool=True)


@pytest.mark.parametrize("hours", [1, -1])
async def test_r16_a_clock_that_jumps_locks_nobody_out(redis: Redis, hours: int) -> None:
    """A bucket that Redis filled by a clock an hour ahead, or behind, is full after two minutes."""
    seconds, _ = await redis.time()
    await redis.set(f"prepaid:bucket:{KEY}", (seconds + hours * HOUR) * 1_000_000)
    clock = Clock()
    limiter = Limiter(redis, LIMIT, clock=clock)
    assert take(limiter, 1) == 1
    await limiter.close()
    clock.now += limits.MISSING_WINDOWS_MAX * Rate(LIMIT).window_seconds
    assert take(limiter, 9) == LIMIT
    await limiter.close()
    assert 0 < await redis.ttl(f"prepaid:bucket:{KEY}") < HOUR


async def test_no_limit_is_no_limit(redis: Redis) -> None:
    limiter = Limiter(redis, 0, clock=Clock())
    assert take(limiter, 1000) == 1000
    assert limiter.headers(KEY) == {}
    await limiter.close()


async def test_r16_refused_requests_are_told_in_one_line_with_their_number(
    redis: Redis, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LOG_INTERVAL_SECONDS", HOUR)
    limiter = Limiter(redis, LIMIT, clock=Clock())
    take(limiter, LIMIT)
    for _ in range(1000):
        assert take(limiter, 1) == 0
    await limiter.close()
    captured = capsys.readouterr()
    lines = [line for line in (captured.out + captured.err).splitlines() if "rate_limited" in line]
    assert len(lines) == 2  # the first at once, the rest together
    assert "999" in lines[1]


@pytest.mark.parametrize(
    ("per_minute", "capacity", "window"),
    [(60_000, 10_000, 10), (6_000, 1_000, 10), (600, 100, 10), (60, 60, 60), (1, 1, 60)],
)
def test_a_bucket_holds_what_ten_seconds_bring_or_a_minute_if_that_is_little(
    per_minute: int, capacity: int, window: float
) -> None:
    rate = Rate(per_minute)
    assert rate.capacity_units == capacity
    assert rate.window_seconds == pytest.approx(window)


# Over HTTP


@pytest_asyncio.fixture
async def limited(
    database_url: str,
    redis_url: str,
    pool: Pool,
    client: aiohttp.ClientSession,
    organization: Organization,
) -> AsyncIterator[ApiClient]:
    """Serve the API with a limit of 60 requests a minute; the client has an admin key."""
    env = environment(database_url, redis_url) | {"PREPAID_REQUESTS_PER_MINUTE": "60"}
    async with serve_api(load(env), pool, client) as bare:
        yield await bare.make_key()


async def test_r16_answers_tell_what_is_left_and_a_refusal_when_to_come_back(
    limited: ApiClient,
) -> None:
    first = await limited.get("/v1/organizations")
    assert first.headers["RateLimit-Policy"] == '"key";q=60;w=60'
    assert first.headers["RateLimit"] == '"key";r=59;t=1'
    missing = await limited.get("/v1/billing/nobody/holds")
    assert missing.status == 404
    assert missing.headers["RateLimit"].startswith('"key";r=58;')
    listed = await limited.get("/api/credit-transactions/list/")
    assert listed.headers["RateLimit"].startswith('"key";r=48;')
    batch = {"transactions": [{"amount": 1}] * 1000}
    posted = await limited.post("/v1/billing/acme/transactions/batch", batch)
    assert posted.headers["RateLimit"].startswith('"key";r=47;')  # it is charged once it is read
    refused = await limited.get("/v1/organizations")
    check_refused(refused, RateLimitError)
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert refused.headers["RateLimit"].startswith('"key";r=0;')
    # The same for clients of the older drafts.
    older = [first.headers[f"RateLimit-{name}"] for name in ("Limit", "Remaining", "Reset")]
    assert older == ["60", "59", "1"]
    assert refused.headers["RateLimit-Remaining"] == "0"
    assert refused.headers["RateLimit"].endswith(f"t={refused.headers['RateLimit-Reset']}")


async def test_r16_requests_without_a_key_share_one_bucket_and_keys_do_not_wait_for_them(
    limited: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limited.api.limiter, "_unauthenticated_rate", Rate(20))
    strangers = [limited.with_key(f"ppk_{number:040}") for number in range(25)]
    found = [(await stranger.get("/v1/organizations")).status for stranger in strangers]
    assert found == [401] * 20 + [429] * 5
    assert (await limited.with_key(None).get("/v1/organizations")).status == 429
    assert (await limited.get("/v1/organizations")).status == 200


async def test_no_request_waits_for_a_frozen_valkey(
    database_url: str, pool: Pool, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    valkey = EmbeddedValkey(Home(tmp_path / "home"), appendonly=False)
    await valkey.start()
    web = WebProcess(environment(database_url, valkey.url()), tmp_path / "web.log")
    try:
        await web.start()
        async with pool.acquire() as connection:
            made = await access.create_key(
                connection, name="k", scope="admin", organization_id=None
            )
        os.kill(valkey.pid, signal.SIGSTOP)
        # Each that waited would wait for two seconds, until the client of Redis gives up.
        requests = 20
        async with asyncio.timeout(requests):
            await ask(client, web, made["key"], requests)
    finally:
        os.kill(valkey.pid, signal.SIGCONT)
        await web.stop()
        await valkey.stop()


async def ask(client: aiohttp.ClientSession, web: WebProcess, key: str, times: int) -> None:
    """Read and deliver so many times."""
    for number in range(times):
        headers = {"Authorization": f"Bearer {key}"}
        async with client.get(f"{web.url}/v1/organizations", headers=headers) as response:
            assert response.status == 200
        body = payment(str(number))
        headers = {"Stripe-Signature": signature(body, SECRET_NEW)}
        url = f"{web.url}/v1/webhooks/stripe"
        async with client.post(url, data=body, headers=headers) as response:
            assert response.status == 200
