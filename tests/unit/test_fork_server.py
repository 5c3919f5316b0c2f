"""A program that is forked looks to a test like one that is executed."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.stripe.process import SimulatorError, SimulatorProcess
from tests.fork_server.processes import Forks

PREPAID = (sys.executable, "-m", "cli")
EMPTY = {"PATH": "/usr/bin:/bin"}


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    made = Forks()
    yield made
    made.close()


@pytest.mark.parametrize(
    "arguments",
    [("--version",), ("serve", "nothing"), ("keys", "list"), ("nothing",), ("events", "--help")],
)
async def test_a_command_writes_and_ends_as_if_it_was_executed(
    forks: Forks, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """It reads no variable of the suite's own process, and no file of another folder."""
    seen = []
    for create in (forks.create_subprocess_exec, asyncio.create_subprocess_exec):
        root = {"PYTHONPATH": str(Path(__file__).parents[2])}
        process = await create(
            *(*PREPAID, *arguments), cwd=tmp_path, env=EMPTY | root,
            stdin=DEVNULL, stdout=PIPE, stderr=PIPE,
        )  # fmt: skip
        seen.append((await process.communicate(), process.returncode))
    assert seen[0] == seen[1]


async def test_both_outputs_may_be_one(forks: Forks, tmp_path: Path) -> None:
    process = await forks.create_subprocess_exec(
        *(*PREPAID, "nothing"), cwd=tmp_path, env=EMPTY, stdout=PIPE, stderr=STDOUT
    )
    output, errors = await process.communicate()
    assert b"No such command" in output
    assert errors is None


async def test_the_end_of_a_killed_program_is_told(
    forks: Forks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SimulatorProcess, "create", staticmethod(forks.create_subprocess_exec))
    simulator = SimulatorProcess(tmp_path / "stripe.sqlite")
    await simulator.start()
    process = simulator._process  # noqa: SLF001 - how it ends is nobody else's matter
    assert process is not None
    await simulator.kill()
    assert process.returncode == -signal.SIGKILL


async def test_what_a_program_says_when_it_cannot_start_is_in_its_log(
    forks: Forks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SimulatorProcess, "create", staticmethod(forks.create_subprocess_exec))
    simulator = SimulatorProcess(tmp_path)
    simulator.log = tmp_path / "log"
    with pytest.raises(SimulatorError, match="unable to open database file"):
        await simulator.start()


async def test_a_program_that_needs_it_is_executed(forks: Forks, tmp_path: Path) -> None:
    """Another one, and one whose variables are read by the dynamic linker."""
    code = "import sys; print(len(sys.modules))"
    for command, more in (
        ((sys.executable, "-c", code), {}),
        ((*PREPAID, "--version"), {"LD_X": "1"}),
    ):
        process = await forks.create_subprocess_exec(
            *command,
            cwd=tmp_path,
            env=EMPTY | more | {"PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=PIPE,
        )
        output, _ = await process.communicate()
        assert process.returncode == 0
        assert len(output) < 100
