"""Work that runs to its end, even where its request is cancelled at the deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

Result = TypeVar("Result")

log = structlog.get_logger()
# The event loop refers to a task weakly.
_running: set[asyncio.Task[Any]] = set()


async def run_to_completion(work: Coroutine[Any, Any, Result]) -> Result:
    """Return the result of the work, or raise what it raises.

    A caller that is cancelled does not cancel the work. If the work then fails, that is logged.
    """
    task = asyncio.create_task(work)
    _running.add(task)
    task.add_done_callback(_running.discard)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_report)
        raise


def _report(task: asyncio.Task[Any]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.warning("http.failed_after_deadline", error=repr(error), exc_info=error)
