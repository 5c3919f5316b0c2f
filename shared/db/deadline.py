"""Waits for PostgreSQL that end in time, also where the server is frozen."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Answer = TypeVar("Answer")


async def in_time(question: Coroutine[Any, Any, Answer], seconds_max: float) -> Answer:
    """Return the answer to a question; raise TimeoutError where it takes longer than that.

    The question is left behind then and not cancelled: a frozen server would block its cancellation
    for as long as a statement may take. `asyncio.timeout` would wait for it.
    """
    asking = asyncio.create_task(question)
    await asyncio.wait({asking}, timeout=seconds_max)
    if not asking.done():
        asking.add_done_callback(_leave)
        raise TimeoutError
    return asking.result()


def _leave(asking: asyncio.Task[Any]) -> None:
    """Take what a question that was left behind ended with, so that nobody reports it."""
    if not asking.cancelled():
        asking.exception()
