"""What a process asks PostgreSQL when it starts: a server that is frozen holds up no start."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from shared.db.deadline import in_time

Answer = TypeVar("Answer")

START_SECONDS_MAX = 5.0


async def asked_at_start(question: Coroutine[Any, Any, Answer]) -> Answer:
    """Return the answer to a question; raise TimeoutError where it takes START_SECONDS_MAX."""
    return await in_time(question, START_SECONDS_MAX)
