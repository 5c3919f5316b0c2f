"""The supervisor with real children: order, output, restarts, and an end that leaves nothing."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox import supervisor as module
from sandbox.supervisor import Child, ChildError, Supervisor

WAIT_SECONDS_MAX = 15

# Prints its process id, then says at its end which signal it was.
SERVER = """
import os, signal, sys
def stop(number, _):
    print(sys.argv[1], "stopping", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print(sys.argv[1], "ready", os.getpid())
while True:
    signal.pause()
"""
STUBBORN = """
import os, signal, subprocess
signal.signal(signal.SIGTERM, signal.SIG_IGN)
helper = subprocess.Popen(["sleep", "60"])
print("ready", os.getpid(), helper.pid)
while True:
    signal.pause()
"""


def server(name: str, code: str = SERVER, ready: str = "ready") -> Child:
    return Child(name, [sys.executable, "-c", code, name], ready=ready)


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)


def pids_in(output: io.StringIO) -> list[int]:
    return [
        int(pid) for line in re.findall(r"ready([ \d]+)", output.getvalue()) for pid in line.split()
    ]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def output() -> io.StringIO:
    return io.StringIO()


async def test_children_start_in_order_and_stop_in_reverse(output: io.StringIO) -> None:
    async with Supervisor(output) as supervisor:
        for name in ("first", "second"):
            await supervisor.start(server(name))
        supervisor.say("both are ready")
    lines = [re.sub(r"ready \d+", "ready", line) for line in output.getvalue().splitlines()]
    assert lines == [
        "first    | first ready",
        "second   | second ready",
        "prepaid  | both are ready",
        "second   | second stopping",
        "first    | first stopping",
    ]
    assert supervisor.stopped_by is None
    assert not any(is_alive(pid) for pid in pids_in(output))


async def test_with_a_log_the_output_has_only_what_the_supervisor_says(output: io.StringIO) -> None:
    log = io.StringIO()
    async with Supervisor(output, log) as supervisor:
        await supervisor.start(server("web"))
        supervisor.say("ready")
    assert output.getvalue() == "ready\n"
    lines = [re.sub(r"ready \d+", "ready", line) for line in log.getvalue().splitlines()]
    assert lines == ["web      | web ready", "prepaid  | ready", "web      | web stopping"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_ends_the_block_without_an_error(
    output: io.StringIO, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    async with Supervisor(output) as supervisor:
        await supervisor.start(server("web"))
        os.kill(os.getpid(), number)
        await supervisor.wait()
    assert supervisor.stopped_by is number
    assert output.getvalue().endswith("web stopping\n")
    assert signal.getsignal(number) is before


async def test_somebody_elses_cancellation_goes_on(output: io.StringIO) -> None:
    async def body() -> None:
        async with Supervisor(output) as supervisor:
            await supervisor.start(server("web"))
            await supervisor.wait()

    task = asyncio.create_task(body())
    await until(lambda: pids_in(output))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert output.getvalue().endswith("web stopping\n")


async def test_a_child_that_dies_is_started_again(
    output: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESTART_SECONDS_MIN", 0.01)
    async with Supervisor(output) as supervisor:
        await supervisor.start(server("worker"))
        os.kill(pids_in(output)[0], signal.SIGKILL)
        await until(lambda: len(pids_in(output)) == 2)
    assert "worker was killed by SIGKILL; starting it again in 0.01 s" in output.getvalue()


async def test_a_child_that_dies_before_it_is_ready_stops_the_start(output: io.StringIO) -> None:
    broken = server("web", "print('no such setting'); raise SystemExit(3)")
    async with Supervisor(output) as supervisor:
        await supervisor.start(server("stripe"))
        with pytest.raises(ChildError, match="web exited with status 3 before it was ready"):
            await supervisor.start(broken)
    assert "web      | no such setting" in output.getvalue()
    assert not any(is_alive(pid) for pid in pids_in(output))


async def test_a_program_that_is_not_there_stops_the_start(output: io.StringIO) -> None:
    with pytest.raises(ChildError, match="web exited with status 1 before it was ready"):
        async with Supervisor(output) as supervisor:
            await supervisor.start(Child("web", ["/no/such/program"], ready="ready"))
    assert "cannot run /no/such/program: No such file or directory" in output.getvalue()


async def test_a_child_that_is_never_ready_stops_the_start(
    output: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READY_SECONDS_MAX", 0.1)
    with pytest.raises(ChildError, match=r"web was not ready in 0\.1 s"):
        async with Supervisor(output) as supervisor:
            await supervisor.start(server("web", ready="never said"))


async def test_a_function_says_when_a_child_is_ready(output: io.StringIO, tmp_path: Path) -> None:
    sign = tmp_path / "ready"

    async def ready() -> bool:
        return sign.exists()

    code = "import pathlib, sys, signal; pathlib.Path(sys.argv[1]).touch(); signal.pause()"
    async with Supervisor(output) as supervisor:
        await supervisor.start(Child("web", [sys.executable, "-c", code, str(sign)], ready=ready))
        assert sign.exists()


async def test_a_stubborn_child_is_killed_with_its_helpers(
    output: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STOP_SECONDS_MAX", 0.1)
    async with Supervisor(output) as supervisor:
        await supervisor.start(server("worker", STUBBORN))
    assert "worker did not stop in 0.1 s: killed" in output.getvalue()
    child, helper = pids_in(output)
    assert not is_alive(child)
    await until(lambda: not is_alive(helper))


async def test_a_second_signal_kills_at_once(output: io.StringIO) -> None:
    loop = asyncio.get_running_loop()
    async with Supervisor(output) as supervisor:
        await supervisor.start(server("worker", STUBBORN))
        os.kill(os.getpid(), signal.SIGINT)
        loop.call_later(0.05, os.kill, os.getpid(), signal.SIGINT)
        await supervisor.wait()
    assert "did not stop" not in output.getvalue()
    assert not is_alive(pids_in(output)[0])


async def test_long_lines_and_the_last_one_without_an_end_are_shown(output: io.StringIO) -> None:
    code = "import os, signal; os.write(1, b'x' * 200_000 + b'\\nready\\nlast'); signal.pause()"
    async with Supervisor(output) as supervisor:
        await supervisor.start(server("web", code))
    lines = [line.removeprefix("web      | ") for line in output.getvalue().splitlines()]
    assert sum(line.count("x") for line in lines) == 200_000
    assert max(map(len, lines)) <= 2 * module.LINE_BYTES_MAX
    assert lines[-2:] == ["ready", "last"]


async def test_names_are_coloured_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured, plain = Terminal(), Terminal()
    async with Supervisor(coloured) as supervisor:
        supervisor.say("hello")
    monkeypatch.setenv("NO_COLOR", "1")
    async with Supervisor(plain) as supervisor:
        supervisor.say("hello")
    assert coloured.getvalue() == "\x1b[36mprepaid  | \x1b[0mhello\n"
    assert plain.getvalue() == "prepaid  | hello\n"


async def test_a_reader_that_went_away_stops_everything() -> None:
    class ClosedPipe(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    async with Supervisor(ClosedPipe()) as supervisor:
        supervisor.say("hello")
        await supervisor.wait()
    assert supervisor.stopped_by is signal.SIGHUP
