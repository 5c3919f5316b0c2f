"""Runs the processes of `prepaid dev`: in order, with named output, restarted, stopped together."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self, TextIO

from sandbox.process import launch_command
from shared.errors import PrepaidError

READY_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 10.0
READY_POLL_SECONDS = 0.05
RESTART_SECONDS_MIN = 0.5
RESTART_SECONDS_MAX = 10.0
# A child that ran this long has not died of its start: the next restart is quick again.
STEADY_SECONDS = 30.0

LINE_BYTES_MAX = 64 * 1024
NAME_WIDTH = 8
COLOURS = (36, 33, 32, 35, 34)  # of ANSI terminals: cyan, yellow, green, magenta, blue
OWN_NAME = "prepaid"

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class ChildError(PrepaidError):
    """A process of the sandbox could not be started."""


@dataclass(frozen=True, slots=True)
class Child:
    """A process to run, and how to tell that it serves.

    `ready` is a piece of a line that it prints, or a function that is asked until it says so;
    without one the child counts as ready once it is started. `env` is added to the environment.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    ready: str | Callable[[], Awaitable[bool]] | None = None


class Supervisor:
    """Keeps children running inside its `async with` block.

    SIGINT, SIGTERM and SIGHUP end the block early and without an error; `stopped_by` then says
    which it was. At the end the children are stopped, the last started first. Another signal while
    they stop kills them at once. None outlives us, even on kill -9 (see `launch_command`).

    With a `log` the children's lines go there, and `output` has only what the supervisor says.
    """

    def __init__(self, output: TextIO | None = None, log: TextIO | None = None) -> None:
        self.stopped_by: signal.Signals | None = None
        self._output = _Output(output or sys.stdout, log, self._stop_block)
        self._runs: list[_Run] = []
        self._block: asyncio.Task[None] | None = None
        self._handlers: dict[signal.Signals, object] = {}

    async def __aenter__(self) -> Self:
        self._block = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            handler = signal.getsignal(number)
            # `nohup` asks for a hangup to be ignored; a shell's `&` asks it of Ctrl-C by mistake.
            if number is signal.SIGHUP and handler is signal.SIG_IGN:
                continue
            self._handlers[number] = handler
            loop.add_signal_handler(number, self._on_signal, number)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        block, self._block = self._block, None
        try:
            for run in reversed(self._runs):
                await run.stop()
        finally:
            loop = asyncio.get_running_loop()
            for number, handler in self._handlers.items():
                loop.remove_signal_handler(number)
                signal.signal(number, handler)  # type: ignore[arg-type] # as getsignal gave it
        ours = self.stopped_by is not None and kind is asyncio.CancelledError
        # As asyncio.timeout does: only our own cancellation is swallowed, another's goes on.
        return ours and block is not None and block.uncancel() == 0

    async def start(self, child: Child) -> None:
        """Start a child and wait until it is ready; raise `ChildError` if it does not get there."""
        run = _Run(child, self._output)
        self._runs.append(run)
        await run.start()

    async def wait(self) -> None:
        """Keep the children running until a signal comes."""
        await asyncio.Event().wait()

    def say(self, line: str) -> None:
        """Print a line between those of the children."""
        self._output.line(OWN_NAME, line)

    def _on_signal(self, number: signal.Signals) -> None:
        if self._block is not None:
            self._stop_block(number)
        else:
            for run in self._runs:
                run.kill()

    def _stop_block(self, number: signal.Signals) -> None:
        if self._block is not None and self.stopped_by is None:
            self.stopped_by = number
            self._block.cancel()


class _Run:
    """A child over all its restarts."""

    def __init__(self, child: Child, output: _Output) -> None:
        self._child = child
        self._output = output
        self._ready = asyncio.Event()
        self._stopping = False
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._keep())
        ready = asyncio.create_task(self._until_ready())
        try:
            done, _ = await asyncio.wait(
                {self._task, ready}, timeout=READY_SECONDS_MAX, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            ready.cancel()
        for task in done:
            task.result()
        if not done:
            raise ChildError(f"{self._child.name} was not ready in {READY_SECONDS_MAX:g} s")

    async def stop(self) -> None:
        """Ask the child to stop, wait, then kill it."""
        self._stopping = True
        if self._task is None:
            return
        if self._running is None:
            self._task.cancel()
        else:
            self._running.terminate()
        done, _ = await asyncio.wait({self._task}, timeout=STOP_SECONDS_MAX)
        if not done:
            self._output.line(
                OWN_NAME, f"{self._child.name} did not stop in {STOP_SECONDS_MAX:g} s: killed"
            )
            self.kill()
            await asyncio.wait({self._task})

    def kill(self) -> None:
        """Kill the child, with the processes that it has started, at once."""
        if self._running is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._running.pid, signal.SIGKILL)

    @property
    def _running(self) -> asyncio.subprocess.Process | None:
        process = self._process
        return process if process is not None and process.returncode is None else None

    async def _keep(self) -> None:
        delay = RESTART_SECONDS_MIN
        while True:
            started = time.monotonic()
            ending = _ending(await self._run_once())
            if self._stopping:
                return
            if not self._ready.is_set():
                raise ChildError(f"{self._child.name} {ending} before it was ready")
            if time.monotonic() - started > STEADY_SECONDS:
                delay = RESTART_SECONDS_MIN
            self._output.line(
                OWN_NAME, f"{self._child.name} {ending}; starting it again in {delay:g} s"
            )
            await asyncio.sleep(delay)
            delay = min(2 * delay, RESTART_SECONDS_MAX)

    async def _run_once(self) -> int:
        self._process = process = await asyncio.create_subprocess_exec(
            *launch_command(self._child.argv, death_signal=signal.SIGTERM),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **self._child.env},
            start_new_session=True,  # the terminal's Ctrl-C is for us alone, to stop in order
        )
        copying = asyncio.create_task(self._copy_output(process))
        status = await process.wait()
        # What the child has started would hold the pipe open, and be left behind.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await copying
        return status

    async def _copy_output(self, process: asyncio.subprocess.Process) -> None:
        if process.stdout is None:
            return
        rest = b""
        while chunk := await process.stdout.read(LINE_BYTES_MAX):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._print(line)
            if len(rest) > LINE_BYTES_MAX:
                self._print(rest)
                rest = b""
        if rest:
            self._print(rest)

    def _print(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        self._output.line(self._child.name, text)
        if isinstance(self._child.ready, str) and self._child.ready in text:
            self._ready.set()

    async def _until_ready(self) -> None:
        ask = self._child.ready
        if isinstance(ask, str):
            await self._ready.wait()
            return
        while ask is not None:
            if await ask():
                break
            await asyncio.sleep(READY_POLL_SECONDS)
        self._ready.set()


class _Output:
    """Lines with the name of who printed them, in a colour of its own on a terminal.

    With a log: the lines of children go to the log, our own to both, and the stream needs no names.
    """

    def __init__(
        self, stream: TextIO, log: TextIO | None, closed: Callable[[signal.Signals], None]
    ) -> None:
        self._stream: TextIO | None = stream
        self._log = log
        self._closed = closed
        coloured = log is None and stream.isatty() and not os.environ.get("NO_COLOR")
        self._colours: Iterator[int] | None = itertools.cycle(COLOURS) if coloured else None
        self._prefixes: dict[str, str] = {}

    def line(self, name: str, text: str) -> None:
        named = f"{self._prefix(name)}{text}\n"
        if self._log is None:
            self._write(named)
            return
        self._log.write(named)
        self._log.flush()
        if name == OWN_NAME:
            self._write(f"{text}\n")

    def _write(self, line: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(line)
            self._stream.flush()
        except OSError:
            # The reader is gone (`| head`, a closed terminal): nothing is worth running for it.
            self._stream = None
            self._closed(signal.SIGHUP)

    def _prefix(self, name: str) -> str:
        if name not in self._prefixes:
            prefix = f"{name:<{NAME_WIDTH}} | "
            if self._colours is not None:
                prefix = f"\x1b[{next(self._colours)}m{prefix}\x1b[0m"
            self._prefixes[name] = prefix
        return self._prefixes[name]


def _ending(status: int) -> str:
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"exited with status {status}"
