"""Runs arq with one job, which drains the inbox: what remains where a wakeup was lost.

The wakeups themselves are read in [`WakeupReader`](wakeup_reader.py), without a poll.
"""

from __future__ import annotations

import asyncio
import re
import time
from functools import partial
from typing import Any, cast, get_args

import structlog
from arq.worker import Worker, func
from redis.exceptions import RedisError, ResponseError

from shared import metrics, outages
from shared.db.pool import UNAVAILABLE
from shared.queue.connection import QUEUE_NAME, connect
from shared.queue.jobs import DRAIN_JOB, JobRefusedError, RefusalReason, read_job, write_job
from worker.clock import repeat
from worker.drainer import Drainer

log = structlog.get_logger()

# arq polls: every few milliseconds it would take a tenth of a core, and twice as much of Redis.
POLL_SECONDS = 1.0
JOBS_AT_ONCE_MAX = 8
JOB_SECONDS_MAX = 600
RECONNECT_SECONDS = 1.0
REFUSAL_LOG_INTERVAL_SECONDS = 10.0
# The function of a refused job: arq removes it from the queue without executing anything.
REFUSED_JOB = "refused"
# An error of Redis about itself begins with a word such as MISCONF (a full disk) or NOREPLICAS. One
# about the content of a key begins with WRONGTYPE, or with ERR, which the client cuts off.
_ABOUT_ITSELF = re.compile(r"(?:.*caused error: \(['\"])?(?!WRONGTYPE)[A-Z]{3,} ", re.DOTALL)

# A counter that Prometheus first sees above 0 has not increased: each reason begins at 0.
for _reason in get_args(RefusalReason):
    metrics.QUEUE_JOBS_REFUSED.labels(_reason)


class _ArqWorker(Worker):
    """arq's worker, with a lock that is free between two polls."""

    def __init__(self, **options: Any) -> None:
        super().__init__(on_startup=cast("Any", self._started), **options)
        self.is_started = asyncio.Event()
        self.polling = asyncio.Lock()

    async def _started(self, _ctx: dict[str, Any]) -> None:
        self.is_started.set()

    async def _poll_iteration(self) -> None:
        async with self.polling:
            await super()._poll_iteration()


class Listener:
    """Runs arq, and restarts it after failures, until it is stopped.

    arq ends when Redis fails; it is restarted until Redis is back. Meanwhile the sweeper drains the
    inbox. Foreign jobs in the queue are refused, counted and removed.
    """

    def __init__(
        self, redis_url: str, drainer: Drainer, reconnect_seconds: float = RECONNECT_SECONDS
    ) -> None:
        self._redis_url = redis_url
        self._drainer = drainer
        self._reconnect_seconds = reconnect_seconds
        self._refusal_logged_at = float("-inf")

    async def run(self, stop: asyncio.Event) -> None:
        """Drain at each wakeup until `stop` is set, then wait for the running jobs."""
        await repeat(
            "listener", partial(self._listen, stop), stop, interval_seconds=self._reconnect_seconds
        )

    async def _listen(self, stop: asyncio.Event) -> None:
        """Run arq until Redis fails or `stop` is set."""
        worker = self._create_worker()
        listening = asyncio.create_task(worker.async_run())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({listening, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        error = await self._end(worker, listening)
        if error is not None and is_unreadable(error):
            return
        if isinstance(error, (RedisError, OSError)):
            outages.REDIS.failed(error)
        elif error is not None:
            raise error

    async def _end(self, worker: _ArqWorker, listening: asyncio.Task[None]) -> Exception | None:
        """Wait for the poll and the running jobs; return the error that ended arq, if any."""
        # Cancelled during a command, arq would leave a pipeline open. Each has a time limit.
        started = asyncio.create_task(worker.is_started.wait())
        await asyncio.wait({started, listening}, return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        async with worker.polling:
            listening.cancel()
        await asyncio.wait({listening})
        failure: Exception | None = None
        for outcome in await asyncio.gather(
            listening, *worker.tasks.values(), return_exceptions=True
        ):
            if isinstance(outcome, Exception):
                failure = outcome
        try:
            if failure is not None and is_unreadable(failure):
                # Such an entry would end arq again. A lost wakeup delays an event by at most 2 s.
                self._refuse("unreadable", error=type(failure).__name__)
                await worker.pool.delete(QUEUE_NAME)
            await worker.pool.aclose(close_connection_pool=True)
        except (RedisError, OSError) as error:
            log.debug("listener.close_failed", error=repr(error))
        return failure

    def _create_worker(self) -> _ArqWorker:
        return _ArqWorker(
            functions=[
                func(self._drain, name=DRAIN_JOB, keep_result=0, max_tries=1),
                func(_nothing, name=REFUSED_JOB, keep_result=0, max_tries=1),
            ],
            redis_pool=connect(self._redis_url),
            queue_name=QUEUE_NAME,
            handle_signals=False,
            max_jobs=JOBS_AT_ONCE_MAX,
            job_timeout=JOB_SECONDS_MAX,
            poll_delay=POLL_SECONDS,
            keep_result=0,
            log_results=False,
            job_serializer=write_job,
            job_deserializer=self._read,
        )

    def _read(self, data: bytes) -> dict[str, Any]:
        try:
            return read_job(data)
        except JobRefusedError as error:
            self._refuse(error.reason, size_bytes=len(data))
            return {"f": REFUSED_JOB, "a": (), "k": {}, "t": None, "et": 0}

    def _refuse(self, reason: RefusalReason, **about: Any) -> None:
        """Count a refused job; log at most one line every few seconds, without its content."""
        metrics.QUEUE_JOBS_REFUSED.labels(reason).inc()
        now = time.monotonic()
        if now - self._refusal_logged_at >= REFUSAL_LOG_INTERVAL_SECONDS:
            self._refusal_logged_at = now
            log.warning("listener.job_refused", reason=reason, **about)

    async def _drain(self, ctx: dict[str, Any]) -> None:
        with structlog.contextvars.bound_contextvars(job_id=ctx["job_id"]):
            try:
                await self._drainer.drain_new()
            except UNAVAILABLE as error:  # the sweeper applies the events
                if not outages.POSTGRES.failed(error):
                    log.warning("listener.drain_failed", error=repr(error))


def is_unreadable(error: Exception) -> bool:
    """Whether arq ended at a key or an id that it cannot read, rather than at an outage of Redis.

    Errors with a class of their own, such as ReadOnlyError, are about Redis.
    """
    if isinstance(error, UnicodeDecodeError):
        return True
    return type(error) is ResponseError and _ABOUT_ITSELF.match(str(error)) is None


async def _nothing(ctx: dict[str, Any]) -> None:
    """Do nothing: the function of a refused job."""
