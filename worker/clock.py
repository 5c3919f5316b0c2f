"""The loop of every worker task: run, wait, run again, survive every failure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from shared import metrics, outages
from shared.db.pool import UNAVAILABLE

log = structlog.get_logger()

FAILURE_SECONDS_MAX = 5.0
# For a canceled statement to end on the server, which frees its connection.
ROLLBACK_SECONDS_MAX = 2.0


@dataclass(slots=True)
class LoopState:
    """Health of a running loop: the start (monotonic), number and cause of its failures."""

    failing_since: float | None = None
    failures: int = 0
    error: str | None = None


# The running loops of this process by name; the heartbeat reports them.
running: dict[str, LoopState] = {}


async def repeat(
    name: str,
    work: Callable[[], Awaitable[object]],
    stop: asyncio.Event,
    *,
    interval_seconds: float,
    wake: asyncio.Event | None = None,
    interruptible: bool = False,
) -> None:
    """Run `work` now, and again each interval after it ended or when `wake` is set, until `stop`.

    At `stop`, work that is `interruptible` is canceled: it rolls back, and the next worker repeats
    it. Other work ends first.

    No failure ends a loop. While PostgreSQL is away it only waits. Any other failure is a bug, or a
    fault that an operator corrects, such as a password or a privilege: it is logged with its trace
    when it begins, counted each time, retried at growing intervals, and logged when it ends.
    """
    state = running[name] = LoopState()
    try:
        while not stop.is_set():
            try:
                await (_interruptible(work, stop) if interruptible else work())
            except Exception as error:  # noqa: BLE001 - no failure may end a loop
                if isinstance(error, UNAVAILABLE) and outages.POSTGRES.failed(error):
                    await pause(interval_seconds, stop)
                    continue
                _failed(name, state, error)
                await pause(failure_seconds(interval_seconds, state.failures), stop)
            else:
                _succeeded(name, state)
                await pause(interval_seconds, stop, wake)
    finally:
        if running.get(name) is state:
            del running[name]


async def _interruptible(work: Callable[[], Awaitable[object]], stop: asyncio.Event) -> None:
    """Run `work` until it ends, or cancel it at `stop`; raise what it raised."""
    task, stopping = asyncio.ensure_future(work()), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=ROLLBACK_SECONDS_MAX)
        if task.done() and not task.cancelled():
            task.result()
    finally:
        stopping.cancel()
        task.cancel()


def failure_seconds(interval_seconds: float, failures: int) -> float:
    """Return the wait after this many failures in a row: twice as long each time, up to a limit."""
    longest = max(interval_seconds, FAILURE_SECONDS_MAX)
    return min(interval_seconds * 2.0 ** min(failures, 16), longest)


async def pause(seconds: float, *until: asyncio.Event | None) -> None:
    """Wait for this many seconds, or until one of the events is set."""
    waits = [asyncio.ensure_future(event.wait()) for event in until if event is not None]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def _failed(name: str, state: LoopState, error: Exception) -> None:
    metrics.LOOP_FAILURES.labels(name).inc()
    state.failures += 1
    state.error = type(error).__name__
    if state.failing_since is None:
        state.failing_since = time.monotonic()
        log.error("worker.loop_failed", loop=name, exc_info=error)


def _succeeded(name: str, state: LoopState) -> None:
    if state.failing_since is not None:
        seconds = round(time.monotonic() - state.failing_since, 1)
        log.warning(
            "worker.loop_recovered", loop=name, after_seconds=seconds, failures=state.failures
        )
        state.failing_since, state.failures, state.error = None, 0, None
