"""What was looked up a moment ago is remembered, and looked up once for all who ask at once."""

from __future__ import annotations

import asyncio

import pytest

from api.framework.recent import Recent


class Source:
    """Look-ups that wait until the test lets them go, and find the key's length."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.down = False

    async def look_up(self, key: str) -> int | None:
        self.asked.append(key)
        await self.gate.wait()
        if self.down:
            raise ConnectionError("away")
        return len(key) or None


async def ask(
    recent: Recent[str, int], source: Source, *keys: str
) -> list[asyncio.Task[int | None]]:
    """Return callers that have asked and wait."""
    tasks = [asyncio.create_task(recent.find(key, source.look_up)) for key in keys]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_those_who_ask_at_once_share_a_look_up() -> None:
    recent, source = Recent[str, int](60), Source()
    tasks = await ask(recent, source, "a", "bb", "a", "a")
    source.gate.set()
    assert await asyncio.gather(*tasks) == [1, 2, 1, 1]
    assert source.asked == ["a", "bb"]


async def test_what_was_found_is_remembered_for_its_time_and_no_longer() -> None:
    now = 0.0
    recent, source = Recent[str, int](3, clock=lambda: now), Source()
    source.gate.set()
    for moment in (0.0, 2.9, 3.1):
        now = moment
        assert await recent.find("a", source.look_up) == 1
    assert source.asked == ["a", "a"]


async def test_what_is_not_there_is_looked_up_every_time() -> None:
    recent, source = Recent[str, int](60), Source()
    source.gate.set()
    assert [await recent.find("", source.look_up) for _ in range(2)] == [None, None]
    assert len(source.asked) == 2


async def test_a_failure_reaches_all_who_wait_and_is_not_remembered() -> None:
    recent, source = Recent[str, int](60), Source()
    source.down = True
    tasks = await ask(recent, source, "a", "a")
    source.gate.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ConnectionError, ConnectionError]
    source.down = False
    assert await recent.find("a", source.look_up) == 1


@pytest.mark.parametrize("leaving", [0, 1])
async def test_a_caller_that_goes_away_does_not_end_the_look_up_for_others(leaving: int) -> None:
    recent, source = Recent[str, int](60), Source()
    tasks = await ask(recent, source, "a", "a")
    tasks[leaving].cancel()
    await asyncio.gather(tasks[leaving], return_exceptions=True)
    source.gate.set()
    assert await tasks[1 - leaving] == 1


async def test_what_is_forgotten_while_it_is_looked_up_is_looked_up_again() -> None:
    recent, source = Recent[str, int](60), Source()
    (before,) = await ask(recent, source, "a")
    recent.forget("a")
    (after,) = await ask(recent, source, "a")
    source.gate.set()
    assert [await before, await after] == [1, 1]
    assert source.asked == ["a", "a"]
    assert await recent.find("a", source.look_up) == 1
    assert source.asked == ["a", "a"]


async def test_there_are_never_more_entries_than_may_be() -> None:
    recent, source = Recent[str, int](60, entries_max=2), Source()
    source.gate.set()
    for key in ("a", "b", "c", "c", "b", "a"):
        await recent.find(key, source.look_up)
    assert source.asked == ["a", "b", "c", "a"]
