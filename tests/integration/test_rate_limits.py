"""How many requests a key may send: counted by all processes together, and without Redis alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from api.limits import WINDOW_SECONDS, Limiter
from shared.errors import RateLimitError
from shared.queue.connection import connect
from tests.fixtures.product import closed_port

KEY, OTHER = UUID(int=1), UUID(int=2)
LIMIT = 5


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


def take(limiter: Limiter, times: int, key: UUID = KEY) -> int:
    """Send so many requests; return how many were let in."""
    for sent in range(times):
        try:
            limiter.take(key)
        except RateLimitError:
            return sent
    return times


async def test_a_key_is_let_in_so_often_a_minute_and_told_when_to_come_back(redis: Redis) -> None:
    clock = Clock()
    limiter = Limiter(redis, LIMIT, clock=clock)
    assert take(limiter, 9) == LIMIT
    assert take(limiter, 1, OTHER) == 1
    with pytest.raises(RateLimitError) as refused:
        limiter.take(KEY)
    wait = refused.value.retry_after_seconds
    assert wait is not None
    assert 0 < wait <= WINDOW_SECONDS
    clock.now += wait
    assert take(limiter, 9) == LIMIT
    await limiter.close()


async def test_what_one_process_has_let_in_counts_in_the_others(redis: Redis) -> None:
    clock = Clock()
    first, second = Limiter(redis, LIMIT, clock=clock), Limiter(redis, LIMIT, clock=clock)
    assert take(first, 3) == 3
    await first.close()
    assert take(second, 1) == 1
    await second.close()
    assert take(second, 9) == 1


async def test_without_redis_each_process_counts_for_itself() -> None:
    away = connect(f"redis://127.0.0.1:{closed_port()}/0")
    limiter = Limiter(away, LIMIT, clock=Clock())
    assert take(limiter, 9) == LIMIT
    await limiter.close()
    assert take(limiter, 1) == 0
    await away.aclose(close_connection_pool=True)


async def test_no_limit_is_no_limit(redis: Redis) -> None:
    limiter = Limiter(redis, 0, clock=Clock())
    assert take(limiter, 1000) == 1000
    await limiter.close()
