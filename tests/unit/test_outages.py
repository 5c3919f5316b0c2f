"""Outages are logged when they begin and when they end, once each."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from structlog.testing import capture_logs

from shared.outages import Outage, watching


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_outage_is_two_lines_and_the_second_has_its_duration() -> None:
    clock = Clock()
    outage = Outage("postgres", monotonic=clock)
    with capture_logs() as lines:
        outage.succeeded()
        for _ in range(100):
            assert outage.failed(OSError("refused"))
            clock.now += 1
        outage.succeeded()
        outage.succeeded()
    first, last = lines
    assert first["event"] == "postgres.unavailable"
    assert "refused" in first["error"]
    assert last["event"] == "postgres.available"
    assert (last["after_seconds"], last["failures"]) == (100, 100)


def test_a_single_unanswered_request_is_no_outage_where_several_are_needed() -> None:
    outage = Outage("stripe", failures_min=3)
    with capture_logs() as lines:
        for _ in range(2):
            outage.failed(OSError())
        outage.succeeded()
        for _ in range(2):
            outage.failed(OSError())
    assert lines == []


def test_a_lock_or_statement_that_takes_too_long_is_no_outage() -> None:
    outage = Outage("postgres")
    assert not outage.failed(asyncpg.LockNotAvailableError())
    assert not outage.failed(asyncpg.QueryCanceledError())
    assert not outage.is_active


async def test_a_full_disk_is_one_outage_although_probes_are_answered_meanwhile() -> None:
    clock = Clock()
    outage = Outage("postgres", monotonic=clock)

    async def probe() -> None:
        """Read, which needs no space."""

    with capture_logs() as lines:
        for _ in range(5):
            assert outage.failed(asyncpg.DiskFullError("could not extend file"))
            clock.now += 30
            await outage.check(probe)
        clock.now += 30
        await outage.check(probe)
    assert [line["event"] for line in lines] == ["postgres.unavailable", "postgres.available"]
    assert (lines[1]["after_seconds"], lines[1]["failures"]) == (180, 5)


@pytest.mark.parametrize(
    "text",
    [
        'could not write to file "base/pgsql_tmp/pgsql_tmp7.0": No space left on device',
        'could not resize shared memory segment "/PostgreSQL.7": No space left on device',
    ],
)
def test_a_statement_without_space_for_its_temporary_files_is_no_outage(text: str) -> None:
    outage = Outage("postgres")
    assert not outage.failed(asyncpg.DiskFullError(text))
    assert not outage.is_active


def test_the_text_of_an_error_is_bounded() -> None:
    with capture_logs() as (lines):
        Outage("postgres").failed(OSError("x" * 1_000_000))
    assert len(repr(lines)) < 1000


async def test_the_end_is_seen_by_whoever_watches_and_nobody_is_asked_without_an_outage() -> None:
    stop, outage = asyncio.Event(), Outage("postgres")
    answers = iter([OSError(), None])
    asked = 0

    async def probe() -> None:
        nonlocal asked
        asked += 1
        if (error := next(answers)) is not None:
            raise error
        stop.set()

    await outage.check(probe)
    assert asked == 0
    outage.failed(OSError())
    with capture_logs() as lines:
        async with watching({outage: probe}, interval_seconds=0):
            await stop.wait()
            await asyncio.sleep(0)
    assert asked == 2
    assert [line["event"] for line in lines] == ["postgres.available"]
