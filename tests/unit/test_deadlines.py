"""Deadlines: what takes too long is ended, and nothing else is."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from shared.errors import DeadlineError
from shared.http.deadlines import Deadlines

SECONDS_MAX = 30
TICK_SECONDS = 0.001


async def double(value: int) -> int:
    await asyncio.sleep(0)
    return value * 2


async def test_work_that_is_done_in_time_gives_what_it_returns() -> None:
    deadlines = Deadlines(tick_seconds=TICK_SECONDS)
    assert await asyncio.gather(*(deadlines.within(60, double(n)) for n in range(3))) == [0, 2, 4]


async def test_work_that_takes_too_long_is_cancelled_and_other_work_goes_on() -> None:
    deadlines = Deadlines(tick_seconds=TICK_SECONDS)
    cleaned_up = asyncio.Event()
    gate = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned_up.set()

    async with asyncio.timeout(SECONDS_MAX):
        other = asyncio.create_task(deadlines.within(60, gate.wait()))
        for _ in range(2):  # the clock stops when there is nothing to look at, and starts again
            with pytest.raises(DeadlineError):
                await deadlines.within(0, hang())
            assert cleaned_up.is_set()
            cleaned_up.clear()
        gate.set()
        assert await other


async def test_a_timeout_of_the_work_itself_is_not_a_deadline() -> None:
    async def fail() -> None:
        raise TimeoutError("of the work")

    with pytest.raises(TimeoutError, match="of the work"):
        await Deadlines().within(60, fail())


async def test_a_failure_passes_as_it_is() -> None:
    async def fail() -> None:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        await Deadlines().within(60, fail())


async def test_a_caller_that_goes_away_is_cancelled_and_not_late() -> None:
    task = asyncio.create_task(Deadlines().within(60, asyncio.Event().wait()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_task_goes_on_after_its_deadline() -> None:
    deadlines = Deadlines(tick_seconds=TICK_SECONDS)
    async with asyncio.timeout(SECONDS_MAX):
        with pytest.raises(DeadlineError):
            await deadlines.within(0, asyncio.Event().wait())
        await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_caller_that_goes_away_while_late_work_cleans_up_is_cancelled() -> None:
    deadlines = Deadlines(tick_seconds=TICK_SECONDS)
    cleaning_up = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaning_up.set()
            await asyncio.Event().wait()

    async with asyncio.timeout(SECONDS_MAX):
        task = asyncio.create_task(deadlines.within(0, hang()))
        await cleaning_up.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert task.cancelling() == 1


async def test_late_work_that_ends_all_the_same_gives_what_it_returns() -> None:
    async def go_on() -> int:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return 7

    async with asyncio.timeout(SECONDS_MAX):
        assert await Deadlines(tick_seconds=TICK_SECONDS).within(0, go_on()) == 7
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
