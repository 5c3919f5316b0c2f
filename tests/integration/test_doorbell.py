"""The doorbell and the worker's loops on a real Valkey."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
import pytest_asyncio
from arq.connections import ArqRedis

from shared.queue.connection import QUEUE_NAME, connect
from shared.queue.doorbell import DRAIN_JOB, PENDING_RINGS_MAX, Doorbell
from tests.fixtures.product import (
    balance,
    closed_port,
    event_states,
    fail_postings,
    payment,
    receive,
    until,
)
from worker.drainer import Drainer
from worker.listener import Listener
from worker.sweeper import Sweeper

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine
    from typing import Any

    from shared.db.pool import Pool
    from shared.events.service import Applier
    from shared.organizations.model import Organization


@pytest_asyncio.fixture
async def redis(redis_url: str) -> AsyncIterator[ArqRedis]:
    client = connect(redis_url)
    yield client
    await client.aclose(close_connection_pool=True)


async def rung(redis: ArqRedis, count: int = 1) -> None:
    async def waiting() -> bool:
        return bool(await redis.zcard(QUEUE_NAME) >= count)

    await until(waiting)


async def idle(doorbell: Doorbell) -> None:
    async def silent() -> bool:
        return doorbell._ringer is None  # noqa: SLF001 - nothing else says that it is done

    await until(silent)


async def settled(pool: Pool, event_id: str) -> None:
    async def done() -> bool:
        return (await event_states(pool))[event_id] not in {"received", "retrying"}

    await until(done)


@asynccontextmanager
async def running(loop: Coroutine[Any, Any, None], stop: asyncio.Event) -> AsyncIterator[None]:
    """Run a worker's loop, and require that it ends well when it is told to."""
    task = asyncio.create_task(loop)
    try:
        yield
    finally:
        stop.set()
        async with asyncio.timeout(10):
            await task


async def test_a_ring_queues_a_drain(redis: ArqRedis) -> None:
    Doorbell(redis).ring()
    await rung(redis)
    (job,) = await redis.queued_jobs()
    assert job.function == DRAIN_JOB


async def test_a_closed_doorbell_has_rung(redis: ArqRedis) -> None:
    """A process that stops would else leave the ring's connection open behind it."""
    doorbell = Doorbell(redis)
    await doorbell.close()
    doorbell.ring()
    await doorbell.close()
    assert await redis.zcard(QUEUE_NAME) == 1


async def test_a_burst_of_rings_is_a_few_drains(redis: ArqRedis) -> None:
    doorbell = Doorbell(redis)
    for _ in range(1000):
        doorbell.ring()
    await idle(doorbell)
    assert await redis.zcard(QUEUE_NAME) <= 2


async def test_every_ring_has_an_id_of_its_own(redis: ArqRedis) -> None:
    for count in (1, 2, 3):
        Doorbell(redis).ring()
        await rung(redis, count)
    jobs = await redis.queued_jobs()
    assert len({job.job_id for job in jobs}) == 3


async def test_while_nobody_answers_rings_do_not_pile_up(redis: ArqRedis) -> None:
    for number in range(PENDING_RINGS_MAX):
        await redis.zadd(QUEUE_NAME, {f"waiting-{number}": 0})
    doorbell = Doorbell(redis)
    doorbell.ring()
    await idle(doorbell)
    assert await redis.zcard(QUEUE_NAME) == PENDING_RINGS_MAX


async def test_a_ring_without_redis_harms_nobody_and_the_next_one_rings(redis: ArqRedis) -> None:
    away = connect(f"redis://127.0.0.1:{closed_port()}/0")
    doorbell = Doorbell(away)
    doorbell.ring()
    await idle(doorbell)
    doorbell._redis = redis  # noqa: SLF001 - Redis is back
    doorbell.ring()
    await rung(redis)
    await away.aclose(close_connection_pool=True)


async def test_a_ring_brings_an_event_to_the_ledger(
    pool: Pool, organization: Organization, drainer: Drainer, redis: ArqRedis, redis_url: str
) -> None:
    stop = asyncio.Event()
    async with running(Listener(redis_url, drainer).run(stop), stop):
        await receive(pool, payment("1"))
        Doorbell(redis).ring()
        await settled(pool, "evt_1")
    assert await balance(pool) == 10


async def test_a_job_that_this_release_does_not_know_does_not_stop_the_listener(
    pool: Pool, organization: Organization, drainer: Drainer, redis: ArqRedis, redis_url: str
) -> None:
    await redis.enqueue_job("a_job_of_another_release")
    stop = asyncio.Event()
    async with running(Listener(redis_url, drainer).run(stop), stop):
        await receive(pool, payment("1"))
        Doorbell(redis).ring()
        await settled(pool, "evt_1")


# Stopped while it looks through so many ids, arq leaves a pipeline of its own unclosed.
@pytest.mark.filterwarnings(
    r"ignore:Exception ignored in. <function Redis\.__del__:pytest.PytestUnraisableExceptionWarning"
)
async def test_a_hundred_stuck_jobs_do_not_keep_an_event_from_the_ledger(
    pool: Pool, organization: Organization, drainer: Drainer, redis: ArqRedis, redis_url: str
) -> None:
    """Arq reads only the first ids of its queue, so that stuck ones starve the rest."""
    for number in range(200):
        await redis.zadd(QUEUE_NAME, {f"stuck-{number}": 0})
        await redis.set(f"arq:in-progress:stuck-{number}", b"1")
    await receive(pool, payment("1"))
    Doorbell(redis).ring()
    stop = asyncio.Event()
    async with (
        running(Listener(redis_url, drainer).run(stop), stop),
        running(Sweeper(drainer, interval_seconds=0.05).run(stop), stop),
    ):
        await settled(pool, "evt_1")


async def test_the_listener_waits_out_a_redis_that_is_away(drainer: Drainer) -> None:
    stop = asyncio.Event()
    url = f"redis://127.0.0.1:{closed_port()}/0"
    async with running(Listener(url, drainer).run(stop), stop):
        done, _ = await asyncio.wait({asyncio.create_task(stop.wait())}, timeout=0.3)
        assert not done


async def test_the_sweep_finds_an_event_whose_ring_was_lost(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    stop = asyncio.Event()
    async with running(Sweeper(drainer, interval_seconds=0.02).run(stop), stop):
        await receive(pool, payment("1"))
        await settled(pool, "evt_1")
    assert await balance(pool) == 10


async def test_the_sweep_waits_out_a_postgresql_that_is_away(applier: Applier) -> None:
    from shared.db.pool import create_pool  # noqa: PLC0415

    url = f"postgresql://prepaid@127.0.0.1:{closed_port()}/prepaid"
    async with create_pool(url, size=1, application_name="tests") as away:
        drainer = Drainer(away, applier, make_token=uuid4)
        stop = asyncio.Event()
        async with running(Sweeper(drainer, interval_seconds=0.01).run(stop), stop):
            await asyncio.wait({asyncio.create_task(stop.wait())}, timeout=0.1)


async def test_the_sweep_survives_a_handler_that_is_broken(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await fail_postings(pool, "pi_bad")
    stop = asyncio.Event()
    async with running(Sweeper(drainer, interval_seconds=0.02).run(stop), stop):
        await receive(pool, payment("bad"), payment("good"))
        await settled(pool, "evt_good")
    assert (await event_states(pool))["evt_bad"] == "retrying"
