"""The wakeup and the worker's loops on a real Valkey."""

from __future__ import annotations

import asyncio
import gc
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec
import pytest
from arq.connections import ArqRedis
from redis.exceptions import ReadOnlyError, ResponseError
from structlog.testing import capture_logs

from sandbox.home import Home
from sandbox.valkey import EmbeddedValkey
from shared import outages
from shared.outages import Outage
from shared.queue.connection import QUEUE_NAME, connect
from shared.queue.jobs import DRAIN_JOB
from shared.queue.wakeup import PENDING_JOBS_MAX, WAKEUPS_KEY, WAKEUPS_MAX, Wakeup
from tests.fixtures.product import (
    balance,
    closed_port,
    event_states,
    fail_postings,
    payment,
    receive,
    until,
)
from tests.fixtures.worker_loops import refused_jobs, running, settled, wake, wakeups
from worker.drainer import Drainer
from worker.listener import Listener, is_unreadable
from worker.sweeper import Sweeper

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.events.service import Applier
    from shared.organizations.model import Organization


async def queued(redis: ArqRedis, count: int = 1) -> None:
    async def waiting() -> bool:
        return bool(await redis.zcard(QUEUE_NAME) >= count)

    await until(waiting)


async def idle(wakeup: Wakeup) -> None:
    async def silent() -> bool:
        return wakeup._sender is None  # noqa: SLF001 - nothing else says that it is done

    await until(silent)


async def test_a_wakeup_queues_a_drain(redis: ArqRedis) -> None:
    Wakeup(redis).send()
    await queued(redis)
    (job,) = await redis.queued_jobs()
    assert job.function == DRAIN_JOB


async def test_the_jobs_of_a_second_are_one_and_each_wakeup_is_an_entry_of_the_list(
    redis: ArqRedis,
) -> None:
    clock = 100.0
    wakeup = Wakeup(redis, monotonic=lambda: clock)
    for _ in range(3):
        wakeup.send()
        await idle(wakeup)
    assert await redis.zcard(QUEUE_NAME) == 1
    assert await wakeups(redis) == 3
    clock += 1
    wakeup.send()
    await idle(wakeup)
    assert await redis.zcard(QUEUE_NAME) == 2


async def test_a_closed_doorbell_has_rung(redis: ArqRedis) -> None:
    """A process that stops would else leave the wakeup's connection open behind it."""
    wakeup = Wakeup(redis)
    await wakeup.close()
    wakeup.send()
    await wakeup.close()
    assert await redis.zcard(QUEUE_NAME) == 1


async def test_a_burst_of_wakeups_is_a_few_drains(redis: ArqRedis) -> None:
    wakeup = Wakeup(redis)
    for _ in range(1000):
        wakeup.send()
    await idle(wakeup)
    assert await redis.zcard(QUEUE_NAME) == 1
    assert await wakeups(redis) <= 2


async def test_every_wakeup_has_an_id_of_its_own(redis: ArqRedis) -> None:
    for count in (1, 2, 3):
        Wakeup(redis).send()
        await queued(redis, count)
    jobs = await redis.queued_jobs()
    assert len({job.job_id for job in jobs}) == 3


async def test_while_nobody_answers_wakeups_do_not_pile_up(redis: ArqRedis) -> None:
    for number in range(PENDING_JOBS_MAX):
        await redis.zadd(QUEUE_NAME, {f"waiting-{number}": 0})
    for _ in range(WAKEUPS_MAX + 2):
        wakeup = Wakeup(redis)
        wakeup.send()
        await idle(wakeup)
    assert await redis.zcard(QUEUE_NAME) == PENDING_JOBS_MAX
    assert await wakeups(redis) == WAKEUPS_MAX
    assert await redis.ttl(WAKEUPS_KEY) > 0


async def test_a_wakeup_without_redis_harms_nobody_and_the_next_one_is_sent(
    redis: ArqRedis,
) -> None:
    away = connect(f"redis://127.0.0.1:{closed_port()}/0")
    wakeup = Wakeup(away)
    wakeup.send()
    await idle(wakeup)
    wakeup._redis = redis  # noqa: SLF001 - Redis is back
    wakeup.send()
    await queued(redis)
    await away.aclose(close_connection_pool=True)


async def test_a_job_of_a_release_before_the_list_brings_an_event_to_the_ledger(
    pool: Pool, organization: Organization, drainer: Drainer, redis: ArqRedis, redis_url: str
) -> None:
    stop = asyncio.Event()
    async with running(Listener(redis_url, drainer).run(stop), stop):
        await receive(pool, payment("1"))
        await redis.enqueue_job(DRAIN_JOB)
        await settled(pool, "evt_1")
    assert await balance(pool) == 10


class Foreign:
    """A job's argument that would run code of its sender's choice where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


async def put(redis: ArqRedis, job_id: bytes, job: bytes) -> None:
    """Put a job into the queue as a client does that is not ours."""
    await redis.set(b"arq:job:" + job_id, job)
    await redis.zadd(QUEUE_NAME, {job_id: 1})


def foreign_job(file: Path) -> bytes:
    return pickle.dumps({"t": None, "f": DRAIN_JOB, "a": (Foreign(file),), "k": {}, "et": 1})


def wrong_job(**changes: Any) -> bytes:
    return msgspec.json.encode({"t": None, "f": DRAIN_JOB, "a": [], "k": {}, "et": 1} | changes)


@pytest.mark.parametrize(
    ("reason", "jobs"),
    [
        ("malformed", [b"", b"\x80", b"\xff\xfe{}", b"[]", b"{}", b"null", b"[" * 900]),
        ("malformed", [wrong_job(et=10**30), wrong_job(t=10**30), wrong_job(a=["x"])]),
        ("malformed", [wrong_job(k={"ctx": 1}), wrong_job(f=None), wrong_job(more=1)]),
        ("too_large", [wrong_job(f="x" * 1_000_000), b"\x80" * 5_000_000]),
        ("unknown_function", [wrong_job(f="a_job_of_another_release"), wrong_job(f="__init__")]),
    ],
)
async def test_a_job_that_is_no_wakeup_is_refused_and_counted_and_the_listener_goes_on(
    pool: Pool,
    organization: Organization,
    drainer: Drainer,
    redis: ArqRedis,
    redis_url: str,
    reason: str,
    jobs: list[bytes],
) -> None:
    """R2."""
    for number, job in enumerate(jobs):
        await put(redis, b"foreign-%d" % number, job)
    before = refused_jobs().get(reason, 0)
    stop = asyncio.Event()
    with capture_logs() as logs:
        async with running(Listener(redis_url, drainer).run(stop), stop):
            await receive(pool, payment("1"))
            await wake(redis)
            await settled(pool, "evt_1")
    assert await redis.zcard(QUEUE_NAME) == 0
    # arq itself drops an empty value as a job that has expired.
    assert refused_jobs()[reason] - before == len([job for job in jobs if job])
    lines = [line for line in logs if line["event"] == "listener.job_refused"]
    assert lines
    assert len(lines) <= len(jobs)
    assert max(len(repr(line)) for line in lines) < 500


async def test_a_pickled_job_of_another_client_is_never_executed(
    drainer: Drainer, redis: ArqRedis, redis_url: str, tmp_path: Path
) -> None:
    """R2: whoever can write to Redis could run code in the worker."""
    touched = tmp_path / "executed"
    pickle.loads(foreign_job(touched))  # noqa: S301 - what must not happen in the worker
    assert touched.exists()
    touched.unlink()
    await put(redis, b"foreign", foreign_job(touched))
    before = refused_jobs().get("malformed", 0)
    stop = asyncio.Event()
    async with running(Listener(redis_url, drainer).run(stop), stop):

        async def taken() -> bool:
            return bool(await redis.zcard(QUEUE_NAME) == 0)

        await until(taken)
    assert not touched.exists()
    assert refused_jobs()["malformed"] == before + 1


@pytest.mark.parametrize("damage", ["id", "queue", "job", "retries"])
async def test_what_arq_cannot_read_is_dropped_and_the_next_wakeup_is_heard(
    pool: Pool,
    organization: Organization,
    drainer: Drainer,
    redis: ArqRedis,
    redis_url: str,
    damage: str,
) -> None:
    """R2: one such key would end arq again and again, and no wakeup would be heard any more."""
    if damage == "queue":
        await redis.set(QUEUE_NAME, "no sorted set")
    elif damage == "id":
        await put(redis, b"\xff\xfe", wrong_job())
    else:
        await put(redis, b"foreign", wrong_job())
        await redis.delete("arq:job:foreign")
        await redis.zadd(f"arq:{'job' if damage == 'job' else 'retry'}:foreign", {"a set": 1})
    before = refused_jobs().get("unreadable", 0)
    stop = asyncio.Event()
    async with running(Listener(redis_url, drainer, reconnect_seconds=0.01).run(stop), stop):

        async def dropped() -> bool:
            return refused_jobs().get("unreadable", 0) == before + 1

        await until(dropped)
        await receive(pool, payment("1"))
        await wake(redis)
        await settled(pool, "evt_1")


async def test_a_redis_that_refuses_every_write_has_not_been_written_to_by_others(
    pool: Pool,
    organization: Organization,
    drainer: Drainer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As with a full disk. Nothing is refused, nothing is deleted, and it is told as an outage."""
    outage = Outage("redis")
    monkeypatch.setattr(outages, "REDIS", outage)
    valkey = EmbeddedValkey(Home(tmp_path / "home"), appendonly=False)
    await valkey.start()
    redis = connect(valkey.url())
    try:
        await wake(redis)
        await redis.config_set("min-replicas-to-write", 1)
        before = refused_jobs()

        async def is_told() -> bool:
            return outage.is_active

        stop = asyncio.Event()
        listener = Listener(valkey.url(), drainer, reconnect_seconds=0.01)
        async with running(listener.run(stop), stop):
            await until(is_told)
            assert await redis.zcard(QUEUE_NAME) == 1
            await receive(pool, payment("1"))
            await redis.config_set("min-replicas-to-write", 0)
            await settled(pool, "evt_1")  # by the job that waited
        assert refused_jobs() == before
    finally:
        await redis.aclose(close_connection_pool=True)
        await valkey.stop()


@pytest.mark.parametrize(
    "error",
    [
        "MISCONF Errors writing to the AOF file: No space left on device",
        "Command # 1 (PSETEX WRONGTYPE 1) of pipeline caused error: ('NOREPLICAS Not enough',)",
    ],
)
def test_the_state_of_redis_makes_nothing_unreadable(error: str) -> None:
    assert not is_unreadable(ResponseError(error))
    assert not is_unreadable(ReadOnlyError("You can't write against a read only replica."))


@pytest.mark.parametrize(
    "error",
    [
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        "value is not an integer or out of range",
        "Command # 2 (INCR MISCONF ) of pipeline caused error: ('WRONGTYPE Operation',)",
    ],
)
def test_a_key_of_the_wrong_kind_is_unreadable(error: str) -> None:
    assert is_unreadable(ResponseError(error))


async def test_a_listener_that_is_stopped_lets_arq_end_its_poll(
    drainer: Drainer, redis: ArqRedis, redis_url: str, recwarn: pytest.WarningsRecorder
) -> None:
    """Cancelled amid so many ids, arq would leave a pipeline of its own unclosed."""
    for number in range(100):
        await redis.zadd(QUEUE_NAME, {f"stuck-{number}": 0})
        await redis.set(f"arq:in-progress:stuck-{number}", b"1")
    stop = asyncio.Event()
    async with running(Listener(redis_url, drainer).run(stop), stop):
        await redis.ping()
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []


async def test_a_job_that_this_release_does_not_know_does_not_stop_the_listener(
    pool: Pool, organization: Organization, drainer: Drainer, redis: ArqRedis, redis_url: str
) -> None:
    await redis.enqueue_job("a_job_of_another_release")
    stop = asyncio.Event()
    async with running(Listener(redis_url, drainer).run(stop), stop):
        await receive(pool, payment("1"))
        await wake(redis)
        await settled(pool, "evt_1")


async def test_a_hundred_stuck_jobs_do_not_keep_an_event_from_the_ledger(
    pool: Pool, organization: Organization, drainer: Drainer, redis: ArqRedis, redis_url: str
) -> None:
    """Arq reads only the first ids of its queue, so that stuck ones starve the rest."""
    for number in range(200):
        await redis.zadd(QUEUE_NAME, {f"stuck-{number}": 0})
        await redis.set(f"arq:in-progress:stuck-{number}", b"1")
    await receive(pool, payment("1"))
    await wake(redis)
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


async def test_the_sweep_finds_an_event_whose_wakeup_was_lost(
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
