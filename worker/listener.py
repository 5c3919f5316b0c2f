"""Answers the doorbell: an arq worker whose one job drains the inbox, and which outlives Redis."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from arq.worker import Worker, func
from redis.exceptions import RedisError

from shared.queue.connection import QUEUE_NAME, connect
from shared.queue.doorbell import DRAIN_JOB
from worker.drainer import Drainer, drain_or_wait

log = structlog.get_logger()

# arq looks for jobs this often. Its default of 0.5 s would be most of an event's way to the ledger.
POLL_SECONDS = 0.005
JOBS_AT_ONCE_MAX = 8
JOB_SECONDS_MAX = 600
RECONNECT_SECONDS = 1.0
CANCEL_SECONDS = 0.1


class Listener:
    """Runs arq until it is stopped, and outlives it.

    When Redis goes, arq ends; it is started again until Redis is back. Meanwhile the sweep drains
    the inbox.
    """

    def __init__(self, redis_url: str, drainer: Drainer) -> None:
        self._redis_url = redis_url
        self._drainer = drainer
        self._worker: Worker | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Answer rings until `stop` is set, then let the running jobs end."""
        reachable = True
        while not stop.is_set():
            self._worker = self._create_worker()
            listening = asyncio.create_task(self._worker.async_run())
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({listening, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            error = await self._end(self._worker, listening)
            if error is not None:
                if reachable:
                    log.warning("listener.redis_unreachable", error=repr(error))
                await _wait(stop, RECONNECT_SECONDS)
            reachable = error is None

    async def _end(self, worker: Worker, listening: asyncio.Task[None]) -> Exception | None:
        """Stop taking jobs, wait for those that run, and say what ended the worker, if anything."""
        worker.allow_pick_jobs = False
        while not listening.done():
            # redis-py may swallow a cancellation while it connects: so it is asked again.
            listening.cancel()
            await asyncio.wait({listening}, timeout=CANCEL_SECONDS)
        found: Exception | None = None
        for outcome in await asyncio.gather(
            listening, *worker.tasks.values(), return_exceptions=True
        ):
            if isinstance(outcome, Exception):
                found = outcome
        try:
            await worker.pool.aclose(close_connection_pool=True)
        except (RedisError, OSError) as error:
            log.debug("listener.close_failed", error=repr(error))
        return found

    def _create_worker(self) -> Worker:
        return Worker(
            functions=[func(self._drain, name=DRAIN_JOB, keep_result=0, max_tries=1)],
            redis_pool=connect(self._redis_url),
            queue_name=QUEUE_NAME,
            handle_signals=False,
            max_jobs=JOBS_AT_ONCE_MAX,
            job_timeout=JOB_SECONDS_MAX,
            poll_delay=POLL_SECONDS,
            log_results=False,
        )

    async def _drain(self, ctx: dict[str, Any]) -> None:
        with structlog.contextvars.bound_contextvars(job_id=ctx["job_id"]):
            await drain_or_wait(self._drainer)


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
