"""A TTL cache: what was loaded is reused for its time, and loaded once for concurrent callers."""

from __future__ import annotations

import asyncio

import pytest

from shared.ttl_cache import TTLCache


class Source:
    """Loads that wait until the test opens the gate, and return the length of the key."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.gate = asyncio.Event()
        self.down = False

    async def load(self, key: str) -> int | None:
        self.loaded.append(key)
        await self.gate.wait()
        if self.down:
            raise ConnectionError("away")
        return len(key) or None


async def start_callers(
    cache: TTLCache[str, int], source: Source, *keys: str
) -> list[asyncio.Task[int | None]]:
    """Return callers that have called and wait."""
    tasks = [asyncio.create_task(cache.get_or_load(key, source.load)) for key in keys]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_concurrent_callers_share_a_load() -> None:
    cache, source = TTLCache[str, int](60), Source()
    tasks = await start_callers(cache, source, "a", "bb", "a", "a")
    source.gate.set()
    assert await asyncio.gather(*tasks) == [1, 2, 1, 1]
    assert source.loaded == ["a", "bb"]


async def test_a_value_is_cached_for_its_time_and_no_longer() -> None:
    now = 0.0
    cache, source = TTLCache[str, int](3, clock=lambda: now), Source()
    source.gate.set()
    for moment in (0.0, 2.9, 3.1):
        now = moment
        assert await cache.get_or_load("a", source.load) == 1
    assert source.loaded == ["a", "a"]


async def test_an_absent_value_is_loaded_every_time() -> None:
    cache, source = TTLCache[str, int](60), Source()
    source.gate.set()
    assert [await cache.get_or_load("", source.load) for _ in range(2)] == [None, None]
    assert len(source.loaded) == 2


async def test_a_failure_reaches_all_who_wait_and_is_not_cached() -> None:
    cache, source = TTLCache[str, int](60), Source()
    source.down = True
    tasks = await start_callers(cache, source, "a", "a")
    source.gate.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ConnectionError, ConnectionError]
    source.down = False
    assert await cache.get_or_load("a", source.load) == 1


@pytest.mark.parametrize("leaving", [0, 1])
async def test_a_cancelled_caller_does_not_cancel_the_load_for_others(leaving: int) -> None:
    cache, source = TTLCache[str, int](60), Source()
    tasks = await start_callers(cache, source, "a", "a")
    tasks[leaving].cancel()
    await asyncio.gather(tasks[leaving], return_exceptions=True)
    source.gate.set()
    assert await tasks[1 - leaving] == 1


async def test_a_key_that_is_invalidated_during_its_load_is_loaded_again() -> None:
    cache, source = TTLCache[str, int](60), Source()
    (before,) = await start_callers(cache, source, "a")
    cache.invalidate("a")
    (after,) = await start_callers(cache, source, "a")
    source.gate.set()
    assert [await before, await after] == [1, 1]
    assert source.loaded == ["a", "a"]
    assert await cache.get_or_load("a", source.load) == 1
    assert source.loaded == ["a", "a"]


async def test_there_are_never_more_entries_than_the_limit() -> None:
    cache, source = TTLCache[str, int](60, entries_max=2), Source()
    source.gate.set()
    for key in ("a", "b", "c", "c", "b", "a"):
        await cache.get_or_load(key, source.load)
    assert source.loaded == ["a", "b", "c", "a"]
