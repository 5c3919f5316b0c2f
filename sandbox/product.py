"""Starts Prepaid's own processes for benchmarks and fault tests, with their real logs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

READY_SECONDS_MAX = 60
STOP_SECONDS_MAX = 15


class ProductProcess:
    """One process of Prepaid, its log in a file of JSON lines.

    It runs this checkout, or what is installed for another `python`, in that one's folder.
    `create` starts it; tests put a server there that forks.
    """

    create: ClassVar[Callable[..., Awaitable[asyncio.subprocess.Process]]] = staticmethod(
        asyncio.create_subprocess_exec
    )

    def __init__(
        self,
        argv: list[str],
        environment: Mapping[str, str],
        log_file: Path,
        *,
        python: Path | None = None,
    ) -> None:
        self._argv = argv
        self._python = python
        self._environment = environment
        self.log_file = log_file
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The running process's id."""
        assert self._process is not None, "the process has not been started"  # noqa: S101 - misuse
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def start(self, *, pipe_stdout: bool = False) -> None:
        """Start the process; its stderr goes to the log file."""
        with self.log_file.open("ab") as log:
            self._process = await self.create(
                self._python or sys.executable,
                "-m",
                "cli",
                *self._argv,
                cwd=self._python.parent if self._python else None,
                env={**os.environ, **self._environment},
                stdout=asyncio.subprocess.PIPE if pipe_stdout else asyncio.subprocess.DEVNULL,
                stderr=log,
            )

    async def wait_for_log(self, event: str) -> dict[str, Any]:
        """Return the first log line with this event, waiting for it; fail with the log's tail."""
        async with asyncio.timeout(READY_SECONDS_MAX):
            while True:
                for line in self.log_lines():
                    if line.get("event") == event:
                        return line
                if not self.is_running:
                    raise RuntimeError(f"{self._argv} ended early:\n{self.log_tail()}")
                await asyncio.sleep(0.01)

    async def ready_line(self) -> dict[str, Any]:
        """Return the JSON line that the process prints on stdout when it listens."""
        assert self._process is not None, "the process has not been started"  # noqa: S101 - misuse
        assert self._process.stdout is not None, "stdout is not piped"  # noqa: S101 - misuse
        async with asyncio.timeout(READY_SECONDS_MAX):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._argv} ended early:\n{self.log_tail()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def log_lines(self) -> list[dict[str, Any]]:
        """Return the log so far; a line that is still being written is left out."""
        lines = self.log_file.read_bytes().split(b"\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith(b"{")]

    def log_tail(self) -> str:
        """Return the end of the log as text, for an error message."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")[-4000:]

    def kill(self) -> None:
        """End the process as a power cut would: SIGKILL, nothing is cleaned up."""
        if self.is_running:
            os.kill(self.pid, signal.SIGKILL)

    async def wait(self) -> int:
        """Wait for the process to end; return its exit code."""
        assert self._process is not None, "the process has not been started"  # noqa: S101 - misuse
        return await self._process.wait()

    async def stop(self) -> int | None:
        """Ask the process to stop (SIGTERM) and wait; return its exit code."""
        if self._process is None:
            return None
        if self.is_running:
            self._process.terminate()
        try:
            return await asyncio.wait_for(self._process.wait(), STOP_SECONDS_MAX)
        except TimeoutError:
            self.kill()
            await self._process.wait()
            raise RuntimeError(f"{self._argv} ignored SIGTERM:\n{self.log_tail()}") from None


class WebProcess(ProductProcess):
    """`prepaid serve` on a free port."""

    def __init__(
        self,
        environment: Mapping[str, str],
        log_file: Path,
        *,
        processes: int = 1,
        python: Path | None = None,
    ) -> None:
        # No load balancer is in front of it, unless a caller says so.
        environment = {"PREPAID_DRAIN_SECONDS": "0", **environment}
        self._serve = ["serve", "--processes", str(processes)] if processes > 1 else ["serve"]
        super().__init__([*self._serve, "--port", "0"], environment, log_file, python=python)
        self.url = ""

    async def start(self, *, pipe_stdout: bool = True) -> None:
        """Start and wait until it listens; a restart takes the same port again."""
        await super().start(pipe_stdout=pipe_stdout)
        self.url = (await self.ready_line())["url"]
        self._argv = [*self._serve, "--port", self.url.rsplit(":", 1)[1]]


class WorkerProcess(ProductProcess):
    """`prepaid worker`."""

    def __init__(self, environment: Mapping[str, str], log_file: Path) -> None:
        super().__init__(["worker"], environment, log_file)

    async def start(self, *, pipe_stdout: bool = False) -> None:
        """Start and wait until it works."""
        await super().start(pipe_stdout=pipe_stdout)
        await self.wait_for_log("worker.ready")
