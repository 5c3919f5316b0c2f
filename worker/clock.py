"""The loop of everything that a worker does on a clock."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from shared.db.pool import UNAVAILABLE

log = structlog.get_logger()


async def repeat(
    work: Callable[[], Awaitable[object]],
    stop: asyncio.Event,
    *,
    interval_seconds: float,
    unavailable: str,
    failed: str,
) -> None:
    """Do the work now, and again so long after it was done, until `stop` is set.

    A round that fails ends no loop: PostgreSQL being away is waited out and logged as
    `unavailable`; anything else is logged as `failed`, with its trace.
    """
    while not stop.is_set():
        try:
            await work()
        except UNAVAILABLE as error:
            log.warning(unavailable, error=repr(error))
        except Exception:  # what everything else relies on goes on
            log.exception(failed)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), interval_seconds)
