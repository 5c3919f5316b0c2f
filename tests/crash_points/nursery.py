"""A process that forks a child for each job; the child kills itself at a named step.

All modules are imported once: a child costs a fork. The process reads a job a line on stdin, and
writes how its child ended on stdout. Nothing of this is part of the product.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from shared.config import load
from tests.crash_points import work
from tests.crash_points.steps import Step, When

COMMAND = "command"
CHILD_SECONDS_MAX = 60


class Job(msgspec.Struct):
    """Work for a child, and the step at which it dies."""

    step: Step
    work: str
    environment: dict[str, str]
    arguments: dict[str, Any]


class End(msgspec.Struct):
    """How a child ended: by a signal, or with an exit code."""

    signal: int
    code: int


def die() -> None:
    """End this process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(step: Step) -> None:
    """Wrap the function of a step, so that this process dies there."""
    module_name, _, path = step.target.partition(":")
    holder: Any = importlib.import_module(module_name)
    *parents, name = path.split(".")
    for parent in parents:
        holder = getattr(holder, parent)
    function = getattr(holder, name)
    calls = itertools.count(1)

    @functools.wraps(function)
    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        call = next(calls)
        if step.when is When.BEFORE and call == step.nth:
            die()
        result = await function(*args, **kwargs)
        if step.when is When.AFTER and call == step.nth:
            die()
        return result

    setattr(holder, name, wrapped)


def be_child(job: Job) -> None:
    """Do a job. The output of commands goes to stderr: stdout is the protocol's."""
    signal.alarm(CHILD_SECONDS_MAX)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    os.environ.update(job.environment)
    kill_at(job.step)
    if job.work == COMMAND:
        work.run_command(job.arguments["argv"])
    else:
        loop = getattr(work, job.work)  # here, where a step may have wrapped it
        asyncio.run(loop(load(job.environment), job.arguments))


def main() -> None:
    """Fork a child for each line, one at a time, until stdin ends."""
    for line in sys.stdin.buffer:
        job = msgspec.json.decode(line, type=Job)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                be_child(job)
                code = 0
            except SystemExit as end:
                code = int(end.code or 0)
            except BaseException:  # noqa: BLE001 - it is printed, and the child ends
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        killed = os.WIFSIGNALED(status)
        ended = End(os.WTERMSIG(status) if killed else 0, 0 if killed else os.WEXITSTATUS(status))
        sys.stdout.buffer.write(msgspec.json.encode(ended) + b"\n")
        sys.stdout.buffer.flush()


class Nursery:
    """The process, as the tests see it."""

    def __init__(self, log_file: Path) -> None:
        self._log_file = log_file
        self._turn = threading.Lock()
        with log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.crash_points.nursery"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    async def run(
        self, step: Step, work_name: str, environment: Mapping[str, str], **arguments: Any
    ) -> End:
        """Let a child do a job; return how it ended."""
        job = Job(step, work_name, dict(environment), arguments)
        return await asyncio.to_thread(self._run, msgspec.json.encode(job))

    def _run(self, line: bytes) -> End:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._turn:
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()
            return msgspec.json.decode(self._process.stdout.readline(), type=End)

    @property
    def log(self) -> str:
        """What children wrote, for a message about one that was not killed."""
        return self._log_file.read_text(encoding="utf-8", errors="replace")[-3000:]

    def close(self) -> None:
        """End the process: it has no more jobs."""
        self._process.communicate()


if __name__ == "__main__":
    main()
