"""The loop of everything that a worker does on a clock."""

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


@dataclass(slots=True)
class LoopState:
    """How a running loop is doing: since when it fails (monotonic), how often, and of what."""

    failing_since: float | None = None
    failures: int = 0
    error: str | None = None


# The loops of this process that run, by name: what its heartbeat reports.
running: dict[str, LoopState] = {}


async def repeat(
    name: str,
    work: Callable[[], Awaitable[object]],
    stop: asyncio.Event,
    *,
    interval_seconds: float,
    wake: asyncio.Event | None = None,
) -> None:
    """Do the work now, and again so long after it was done or when woken, until `stop` is set.

    No failure ends a loop. PostgreSQL being away is waited out. Anything else is a bug or a fault
    that an operator corrects, such as a password or a privilege: it is logged with its trace when
    it begins, counted each time, tried again at growing intervals, and logged when it ends.
    """
    state = running[name] = LoopState()
    try:
        while not stop.is_set():
            try:
                await work()
            except Exception as error:  # noqa: BLE001 - what everything else relies on goes on
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


def failure_seconds(interval_seconds: float, failures: int) -> float:
    """Return how long a loop waits after so many failures in a row: twice as long each time."""
    longest = max(interval_seconds, FAILURE_SECONDS_MAX)
    return min(interval_seconds * 2.0 ** min(failures, 16), longest)


async def pause(seconds: float, *until: asyncio.Event | None) -> None:
    """Wait so long, or until one of the events is set."""
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
