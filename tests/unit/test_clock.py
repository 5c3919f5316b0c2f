"""The loop helper of the worker: no failure ends a loop, and each outage is logged once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator

import asyncpg
import pytest
from structlog.testing import capture_logs

from shared import metrics, outages
from worker import clock


def failures(loop: str) -> float:
    return float(metrics.LOOP_FAILURES.labels(loop)._value.get())  # noqa: SLF001 - no other way to ask


async def run_rounds(rounds: Iterator[Exception | None]) -> None:
    """Repeat until there is no round left; each fails with the error that it is given."""
    stop = asyncio.Event()

    async def work() -> None:
        error = next(rounds, "end")
        if isinstance(error, Exception):
            raise error
        if error == "end":
            stop.set()

    await clock.repeat("example", work, stop, interval_seconds=0)


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.UndefinedColumnError("no such column"),
        asyncpg.InvalidPasswordError("wrong password"),
        asyncpg.InsufficientPrivilegeError("denied"),
        asyncpg.LockNotAvailableError("a lock"),
        asyncpg.DiskFullError('could not write to file "base/pgsql_tmp/pgsql_tmp7.0"'),
        ValueError("a bug"),
    ],
)
async def test_an_unexpected_error_is_logged_once_counted_and_tried_again(error: Exception) -> None:
    """R12."""
    before = failures("example")
    with capture_logs() as lines:
        await run_rounds(iter([None, error, error, error, None, None]))
    assert [line["event"] for line in lines] == ["worker.loop_failed", "worker.loop_recovered"]
    assert lines[0]["exc_info"] is error
    assert (lines[0]["loop"], lines[1]["failures"]) == ("example", 3)
    assert failures("example") == before + 3
    assert "example" not in clock.running


async def test_postgresql_away_is_one_outage_and_no_failure_of_the_loop() -> None:
    before = failures("example")
    outages.POSTGRES.succeeded()
    with capture_logs() as lines:
        await run_rounds(iter([OSError(), TimeoutError(), OSError()]))
        outages.POSTGRES.succeeded()
    assert [line["event"] for line in lines] == ["postgres.unavailable", "postgres.available"]
    assert failures("example") == before


async def test_a_loop_that_is_woken_does_not_wait_for_its_interval() -> None:
    stop, wake = asyncio.Event(), asyncio.Event()
    rounds = 0

    async def work() -> None:
        nonlocal rounds
        rounds += 1
        wake.set() if rounds == 1 else stop.set()

    async with asyncio.timeout(10):
        await clock.repeat("example", work, stop, interval_seconds=3600, wake=wake)
    assert rounds == 2


def test_the_wait_after_a_failure_grows_and_is_bounded() -> None:
    assert [clock.failure_seconds(1, n) for n in (1, 2, 3, 100_000)] == [2, 4, 5, 5]
    assert clock.failure_seconds(600, 3) == 600


JUMPS = """
import asyncio, time, datetime
from worker import clock

wall, offset = time.time, 0
time.time = lambda: wall() + offset

async def main():
    stop, rounds = asyncio.Event(), 0
    async def work():
        global offset
        nonlocal rounds
        rounds += 1
        offset = (0, 3600, -3600)[rounds % 3]
        if rounds == 30:
            stop.set()
    async with asyncio.timeout(20):
        await clock.repeat("example", work, stop, interval_seconds=0.001)
    print(rounds)

asyncio.run(main())
"""


def test_a_clock_that_jumps_an_hour_ahead_and_back_does_not_stop_a_loop() -> None:
    """The loops wait by the monotonic clock."""
    done = subprocess.run([sys.executable, "-c", JUMPS], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "30"
