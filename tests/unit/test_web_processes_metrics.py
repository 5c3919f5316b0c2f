"""The metrics of several web processes are one text, whichever is asked."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from shared.http.processes import WebProcesses, exposition, join, shared_folder


def counter(number: int, value: int) -> bytes:
    return (
        "# HELP prepaid_requests_total Requests.\n# TYPE prepaid_requests_total counter\n"
        f'prepaid_requests_total{{process="{number}"}} {value}.0\n'
    ).encode()


def answers(number: int, value: int) -> Callable[[], Awaitable[bytes]]:
    async def own() -> bytes:
        return counter(number, value)

    return own


@asynccontextmanager
async def new_after(old: WebProcesses, new: WebProcesses) -> AsyncIterator[None]:
    """Publish both, as during a restart: the new one while the old one still ends."""
    async with old.publishing(answers(1, 100)), new.publishing(answers(1, 3)):
        yield


def samples(text: bytes) -> list[str]:
    return [line for line in text.decode().splitlines() if not line.startswith("#")]


async def test_whichever_process_is_asked_answers_for_all(tmp_path: Path) -> None:
    first, second = WebProcesses(1, tmp_path), WebProcesses(2, tmp_path)
    async with first.publishing(answers(1, 5)), second.publishing(answers(2, 7)):
        texts = [await p.metrics(answers(n, v)) for p, n, v in [(first, 1, 5), (second, 2, 7)]]

    assert texts[0] == texts[1]
    assert texts[0].count(b"# HELP") == 1
    assert samples(texts[0]) == [
        'prepaid_requests_total{process="1"} 5.0',
        'prepaid_requests_total{process="2"} 7.0',
    ]


async def test_a_replaced_process_answers_with_the_figures_of_its_successor(tmp_path: Path) -> None:
    old, new = WebProcesses(1, tmp_path), WebProcesses(1, tmp_path)
    async with new_after(old, new):
        assert samples(await old.metrics(answers(1, 100))) == [
            'prepaid_requests_total{process="1"} 3.0'
        ]
        assert samples(await new.metrics(answers(1, 3))) == [
            'prepaid_requests_total{process="1"} 3.0'
        ]


async def test_a_process_that_does_not_answer_is_left_out_and_logged(tmp_path: Path) -> None:
    process = WebProcesses(1, tmp_path)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "2.sock"))  # it listens no more
        with capture_logs() as logs:
            async with process.publishing(answers(1, 5)):
                text = await process.metrics(answers(1, 5))

    assert samples(text) == ['prepaid_requests_total{process="1"} 5.0']
    assert [(line["event"], line["process"]) for line in logs] == [("metrics.process_silent", "2")]


async def test_a_process_whose_folder_was_deleted_still_answers_for_itself(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    first, late = WebProcesses(1, folder), WebProcesses(2, folder)
    with capture_logs() as logs:
        async with first.publishing(answers(1, 5)):
            shutil.rmtree(folder)
            async with late.publishing(answers(2, 7)):
                texts = [await first.metrics(answers(1, 5)), await late.metrics(answers(2, 7))]

    assert [samples(text) for text in texts] == [
        ['prepaid_requests_total{process="1"} 5.0'],
        ['prepaid_requests_total{process="2"} 7.0'],
    ]
    assert [line["event"] for line in logs] == ["metrics.not_published"]


def test_the_folder_of_the_sockets_is_locked_against_those_who_delete_old_files() -> None:
    with shared_folder() as folder:
        descriptor = os.open(folder, os.O_RDONLY)
        with pytest.raises(BlockingIOError):  # as systemd-tmpfiles tries it
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)
    assert not folder.exists()


def test_every_series_of_a_numbered_process_has_its_number_and_joins_without_a_double_family() -> (
    None
):
    joined = join([exposition(1), exposition(2)]).decode()

    series = samples(joined.encode())
    assert series
    assert all('process="1"' in line or 'process="2"' in line for line in series)
    families = [line for line in joined.splitlines() if line.startswith("# TYPE")]
    assert len(families) == len(set(families))
