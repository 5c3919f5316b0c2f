"""One server process: started so that it cannot outlive us, watched, stopped, killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import BinaryIO

from sandbox.account import Account
from sandbox.process_table import children_of, pid_in, running_in, send
from shared.errors import PrepaidError

LAUNCHER = Path(__file__).with_name("launch.py")
POLL_SECONDS = 0.01
LEFTOVER_SECONDS_MAX = 10.0
TAIL_LINES_MAX = 12
TAIL_BYTES_MAX = 8_192


class ServerStartError(PrepaidError):
    """A server could not be started."""


def launch_command(
    argv: Sequence[str], *, death_signal: signal.Signals, account: Account | None = None
) -> list[str]:
    """Return the command that runs `argv` tied to the thread that starts it.

    Where the kernel offers it (Linux), the program gets `death_signal` when that thread ends, so
    nothing is left behind even after kill -9. The thread has to live as long as the server.
    """
    user = f"{account.uid}:{account.gid}" if account else ""
    launcher = [sys.executable, "-I", "-S", str(LAUNCHER)]
    return [*launcher, str(int(death_signal)), str(os.getpid()), user, *argv]


def server_environment() -> dict[str, str]:
    """Return an environment without the PG… variables and locale of whoever types `make up`."""
    kept = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")
    return {"LC_ALL": "C"} | {name: os.environ[name] for name in kept if name in os.environ}


class ServerProcess:
    """A server's process; nothing in it is bound to an event loop, so any may stop or kill it."""

    def __init__(self, name: str, log: Path, account: Account | None) -> None:
        self.name = name
        self.log = log
        self._account = account
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if self._process is None:
            raise ProcessLookupError(f"{self.name} is not running")
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The status that the server exited with; None while it runs."""
        return self._process.poll() if self._process is not None else 0

    @property
    def running(self) -> bool:
        """Whether the server was started and has not exited."""
        return self._process is not None and self._process.poll() is None

    def spawn(
        self,
        argv: Sequence[str],
        *,
        folder: Path,
        death_signal: signal.Signals,
        standard_input: bytes = b"",
    ) -> None:
        """Start the server in its data folder, with a log of its own; the last one is kept."""
        with fresh_log(self.log) as log:
            self._process = subprocess.Popen(
                launch_command(argv, death_signal=death_signal, account=self._account),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=server_environment(),
                start_new_session=True,  # Ctrl-C in the terminal is for us to handle, in order
            )
        if self._process.stdin is not None:
            # A server that has exited already is told apart by its status, not by this pipe.
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(standard_input)
                self._process.stdin.close()

    async def ready(self, check: Callable[[], Awaitable[bool]], *, seconds_max: float) -> bool:
        """Wait until `check` says so; False when the server has exited instead."""
        deadline = time.monotonic() + seconds_max
        while self.running:
            if await check():
                return True
            if time.monotonic() > deadline:
                raise ServerStartError(
                    f"{self.name} was not ready in {seconds_max:g} s{self.tail()}"
                )
            await asyncio.sleep(POLL_SECONDS)
        return False

    async def exited(self, seconds_max: float) -> bool:
        """Wait until the server has exited; False when it runs on."""
        deadline = time.monotonic() + seconds_max
        while self.running:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(POLL_SECONDS)
        return True

    async def stop(self, *steps: tuple[signal.Signals, float]) -> None:
        """Send each signal and wait its seconds; then SIGKILL, which nothing survives."""
        for step, seconds_max in steps:
            self.send(step)
            if await self.exited(seconds_max):
                return
        self.kill()

    def kill(self) -> None:
        """Kill the server and the processes that it forked, at once."""
        if not self.running:
            return
        # Frozen first: between listing its children and killing it, it could fork another.
        self.send(signal.SIGSTOP)
        for pid in children_of(self.pid):
            send(pid, signal.SIGKILL)
        self.send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless the server has exited."""
        if self._process is not None:
            self._process.send_signal(number)

    def tail(self) -> str:
        """Return the end of the log, as the lines that follow a sentence."""
        return tail(self.log)


def fresh_log(path: Path) -> BinaryIO:
    """Open an empty log; the last one is kept beside it."""
    if path.exists():
        path.replace(path.with_name(f"{path.name}.1"))
    return path.open("xb")


def tail(log: Path) -> str:
    """Return a colon and the last lines of a log, or nothing where there are none."""
    try:
        end = log.read_bytes()[-TAIL_BYTES_MAX:]
    except FileNotFoundError:
        return ""
    lines = end.decode(errors="replace").splitlines()[-TAIL_LINES_MAX:]
    return "".join([f"; {log} ends with:", *(f"\n  {line}" for line in lines)]) if lines else ""


async def stop_leftovers(
    folder: Path, commands: Collection[str], pid_file: Path, number: signal.Signals
) -> None:
    """End the servers that an earlier start left in `folder`: its kill -9 reached it alone.

    They are stopping already where the kernel told them (see `launch_command`); then this waits.
    """
    if (leader := pid_in(pid_file)) and leader in running_in(folder, commands, pid_file):
        send(leader, number)
    deadline = time.monotonic() + LEFTOVER_SECONDS_MAX
    while left := running_in(folder, commands, pid_file):
        if time.monotonic() > deadline:
            for pid in left:
                send(pid, signal.SIGKILL)
        await asyncio.sleep(POLL_SECONDS)
