"""What a process asks PostgreSQL when it starts: a server that is frozen holds up no start."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Answer = TypeVar("Answer")

START_SECONDS_MAX = 5.0


async def in_time(question: Coroutine[Any, Any, Answer]) -> Answer:
    """Return the answer to a question; raise TimeoutError where it takes START_SECONDS_MAX.

    The question is left behind then and not cancelled: a frozen server would block its cancellation
    for as long as a statement may take.
    """
    asking = asyncio.create_task(question)
    await asyncio.wait({asking}, timeout=START_SECONDS_MAX)
    if not asking.done():
        asking.add_done_callback(_leave)
        raise TimeoutError
    return asking.result()


def _leave(asking: asyncio.Task[Any]) -> None:
    """Take what a question that was left behind ended with, so that nobody reports it."""
    if not asking.cancelled():
        asking.exception()
