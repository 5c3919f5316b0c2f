"""Start and stop the simulator as a process of its own, for the sandbox and for tests."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Final

START_SECONDS_MAX: Final = 20.0
STOP_SECONDS_MAX: Final = 5.0
# Signs what is sent to the endpoint: several, separated by commas, while one rolls. As
# an argument it would be in every list of processes.
SECRETS_VARIABLE: Final = "SIMULATOR_WEBHOOK_SECRETS"


class SimulatorError(RuntimeError):
    """The simulator did not start; the message holds what it wrote to stderr."""


class SimulatorProcess:
    """One simulator process.

    `await start()` returns when it listens and sets `url`. `await stop()` ends it cleanly,
    `await kill()` as a crash would. After either, `start()` runs it again on the same state and,
    unless another is passed, the same port, so that addresses handed out before stay good.
    `module` is what Python runs; tests put a simulator with an observer there. `create` starts it;
    tests put a server there that forks.
    """

    module: ClassVar = "sandbox.stripe"
    create: ClassVar[Callable[..., Awaitable[asyncio.subprocess.Process]]] = staticmethod(
        asyncio.create_subprocess_exec
    )

    def __init__(
        self,
        state: Path,
        *,
        webhook_url: str | None = None,
        webhook_secret: str | Sequence[str] = "whsec_simulator",  # noqa: S107  # signs test events
        account: str | None = None,
        retry_base_seconds: float | None = None,
    ) -> None:
        self.state = state
        self.log = state.with_suffix(".log")
        self.webhook_url = webhook_url
        self.webhook_secrets = (
            [webhook_secret] if isinstance(webhook_secret, str) else list(webhook_secret)
        )
        self.account = account
        self.retry_base_seconds = retry_base_seconds
        self.url = ""
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The running process's id."""
        if self._process is None:
            raise SimulatorError("The Stripe simulator is not running.")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def start(self, port: int | None = None) -> str:
        """Start it and return its address.

        Raises `SimulatorError` with its stderr if it ends or stays silent for 20 s.
        """
        if self._process is not None:
            raise SimulatorError("The Stripe simulator is running already.")
        if port is None:
            port = int(self.url.rpartition(":")[2]) if self.url else 0
        with self.log.open("ab") as log:
            self._process = await self.create(
                *self._command(port),
                env={**os.environ, SECRETS_VARIABLE: ",".join(self.webhook_secrets)},
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        try:
            async with asyncio.timeout(START_SECONDS_MAX):
                line = await self._output().readline()
            self.url = str(json.loads(line)["url"])
        except (TimeoutError, ValueError) as error:
            await self._end(signal.SIGKILL)
            message = f"The Stripe simulator did not start:\n{self.log.read_text()}"
            raise SimulatorError(message) from error
        return self.url

    async def stop(self) -> None:
        """End it cleanly; harmless when it is not running."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """End it without any chance to tidy up; harmless when it is not running."""
        await self._end(signal.SIGKILL)

    def _command(self, port: int) -> list[str]:
        command = [sys.executable, "-m", self.module, "--port", str(port)]
        command += ["--state", str(self.state)]
        if self.webhook_url is not None:
            command += ["--webhook-url", self.webhook_url]
        if self.account is not None:
            command += ["--account", self.account]
        if self.retry_base_seconds is not None:
            command += ["--retry-base-seconds", str(self.retry_base_seconds)]
        return command

    def _output(self) -> asyncio.StreamReader:
        if self._process is None or self._process.stdout is None:
            raise SimulatorError("The Stripe simulator has no output.")
        return self._process.stdout

    async def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        _signal(process, number)
        try:
            async with asyncio.timeout(STOP_SECONDS_MAX):
                await process.communicate()
        except TimeoutError:
            _signal(process, signal.SIGKILL)
            await process.communicate()


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    # Not `process.send_signal`: it reaps a child that just died, and asyncio then misses its exit.
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)
