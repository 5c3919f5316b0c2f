"""The blocking read of wakeups, on a real Valkey: alone, without arq's poll and the sweep."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

import pytest
from arq.connections import ArqRedis

from shared.queue.wakeup import WAKEUPS_KEY
from tests.fixtures.freezing import gate
from tests.fixtures.product import balance, closed_port, payment, receive, until
from tests.fixtures.worker_loops import refused_jobs, running, settled, wake, wakeups
from worker.drainer import Drainer
from worker.sweeper import Sweeper
from worker.wakeup_reader import READERS, WakeupReader

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization


async def blocked_clients(redis: ArqRedis, number: int) -> None:
    """Wait until so many readers wait for a wakeup in this database."""

    async def wait() -> bool:
        clients = await redis.client_list()
        database = str(redis.connection_pool.connection_kwargs["db"])
        reading = [c for c in clients if c["cmd"] == "blpop" and c["db"] == database]
        return len([c for c in reading if "b" in c["flags"]]) == number

    await until(wait)


async def test_a_wakeup_brings_an_event_to_the_ledger(
    pool: Pool, organization: Organization, drainer: Drainer, redis: ArqRedis, redis_url: str
) -> None:
    stop = asyncio.Event()
    async with running(WakeupReader(redis_url, drainer).run(stop), stop):
        await blocked_clients(redis, READERS)
        await receive(pool, payment("1"))
        await wake(redis)
        await settled(pool, "evt_1")
    assert await balance(pool) == 10


async def test_a_wakeup_that_was_sent_while_no_worker_ran_is_read_by_the_next_one(
    pool: Pool, organization: Organization, drainer: Drainer, redis: ArqRedis, redis_url: str
) -> None:
    await receive(pool, payment("1"))
    await wake(redis)
    stop = asyncio.Event()
    async with running(WakeupReader(redis_url, drainer).run(stop), stop):
        await settled(pool, "evt_1")


async def test_a_wakeup_goes_to_one_worker(
    pool: Pool, organization: Organization, drainer: Drainer, redis: ArqRedis, redis_url: str
) -> None:
    stop = asyncio.Event()
    async with (
        running(WakeupReader(redis_url, drainer).run(stop), stop),
        running(WakeupReader(redis_url, drainer).run(stop), stop),
    ):
        await blocked_clients(redis, 2 * READERS)
        await wake(redis)

        async def taken() -> bool:
            return await wakeups(redis) == 0

        await until(taken)
        await blocked_clients(redis, 2 * READERS)


async def test_a_worker_that_stops_wakes_another(
    drainer: Drainer, redis: ArqRedis, redis_url: str
) -> None:
    """Its last wakeup may be lost with its connection, and its last drain is not ended."""
    stop = asyncio.Event()
    async with running(WakeupReader(redis_url, drainer).run(stop), stop):
        await blocked_clients(redis, READERS)
        assert await wakeups(redis) == 0
    assert await wakeups(redis) == 1


async def test_a_stop_during_the_read_leaves_no_connection_open(
    drainer: Drainer, redis: ArqRedis, redis_url: str, recwarn: pytest.WarningsRecorder
) -> None:
    stop = asyncio.Event()
    async with running(WakeupReader(redis_url, drainer).run(stop), stop):
        await blocked_clients(redis, READERS)
    await blocked_clients(redis, 0)
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []


async def test_a_reader_whose_connection_was_cut_reads_the_next_wakeup(
    pool: Pool, organization: Organization, drainer: Drainer, redis: ArqRedis, redis_url: str
) -> None:
    stop = asyncio.Event()
    async with running(WakeupReader(redis_url, drainer, reconnect_seconds=0.01).run(stop), stop):
        await blocked_clients(redis, READERS)
        database = str(redis.connection_pool.connection_kwargs["db"])
        for client in await redis.client_list():
            if client["cmd"] == "blpop" and client["db"] == database:
                await redis.client_kill_filter(_id=client["id"])
        await blocked_clients(redis, READERS)
        await receive(pool, payment("1"))
        await wake(redis)
        await settled(pool, "evt_1")


async def test_a_flush_of_redis_leaves_the_readers_waiting_and_loses_no_event(
    pool: Pool, organization: Organization, drainer: Drainer, redis: ArqRedis, redis_url: str
) -> None:
    stop = asyncio.Event()
    async with running(WakeupReader(redis_url, drainer).run(stop), stop):
        await blocked_clients(redis, READERS)
        await redis.flushdb()
        await receive(pool, payment("1"))
        await wake(redis)
        await settled(pool, "evt_1")


async def test_what_another_program_wrote_to_the_key_is_removed_and_the_next_wakeup_is_read(
    pool: Pool, organization: Organization, drainer: Drainer, redis: ArqRedis, redis_url: str
) -> None:
    await redis.set(WAKEUPS_KEY, "no list")
    before = refused_jobs().get("unreadable", 0)
    stop = asyncio.Event()
    async with running(WakeupReader(redis_url, drainer, reconnect_seconds=0.01).run(stop), stop):
        await blocked_clients(redis, READERS)
        assert refused_jobs()["unreadable"] > before
        await receive(pool, payment("1"))
        await wake(redis)
        await settled(pool, "evt_1")


async def test_while_redis_says_nothing_the_sweep_finds_the_event_and_the_reader_stops(
    pool: Pool, organization: Organization, drainer: Drainer, redis_url: str, redis: ArqRedis
) -> None:
    stop = asyncio.Event()
    async with gate(redis_url) as between:
        reader = WakeupReader(between.url, drainer)
        sweeper = Sweeper(drainer, interval_seconds=0.02)
        async with running(reader.run(stop), stop), running(sweeper.run(stop), stop):
            await blocked_clients(redis, READERS)
            between.freeze()
            await receive(pool, payment("1"))
            await wake(redis)
            await settled(pool, "evt_1")
            between.thaw()


async def test_the_reader_waits_out_a_redis_that_is_away(drainer: Drainer) -> None:
    stop = asyncio.Event()
    url = f"redis://127.0.0.1:{closed_port()}/0"
    async with running(WakeupReader(url, drainer).run(stop), stop):
        done, _ = await asyncio.wait({asyncio.create_task(stop.wait())}, timeout=0.1)
        assert not done


async def test_an_event_that_an_applied_one_reopened_needs_no_wakeup(
    pool: Pool, organization: Organization, drainer: Drainer, redis: ArqRedis, redis_url: str
) -> None:
    """What is bound reopens what waited for it, after the claim of the batch."""
    stop = asyncio.Event()
    async with running(WakeupReader(redis_url, drainer).run(stop), stop):
        await blocked_clients(redis, READERS)
        await receive(pool, payment("1"))
        await pool.execute(
            "UPDATE stripe_events SET state = 'ignored', reason = 'it waits', settled_at = now(),"
            " waits_for = 'pi_2'"
        )
        await receive(pool, payment("2"))
        await wake(redis)
        await settled(pool, "evt_2")

        async def applied() -> bool:
            return await balance(pool) == 20

        await until(applied)
