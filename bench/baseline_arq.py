"""An arq worker with default settings, and jobs that do nothing: what everybody starts with.

Prints the moment of each job's run, one line each: the id that it was enqueued under, and the time.
"""

from __future__ import annotations

import sys
import time
from typing import Any, cast

from arq.connections import RedisSettings
from arq.worker import Worker


async def noop(_ctx: dict[str, Any], name: str) -> None:
    """Say that the job ran."""
    sys.stdout.write(f"{name} {time.time()}\n")


async def started(_ctx: dict[str, Any]) -> None:
    """Say that the worker takes jobs now."""
    sys.stdout.write("started 0\n")
    sys.stdout.flush()


async def flush(_ctx: dict[str, Any]) -> None:
    """Pass each job's line on at once."""
    sys.stdout.flush()


if __name__ == "__main__":
    Worker(
        functions=[cast("Any", noop)],
        redis_settings=RedisSettings.from_dsn(sys.argv[1]),
        on_startup=cast("Any", started),
        after_job_end=cast("Any", flush),
    ).run()
