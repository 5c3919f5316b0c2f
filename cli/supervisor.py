"""Several web processes on one port: starts them, replaces those that end, restarts them in turn.

The supervisor binds the port and serves nothing itself. All processes accept connections on its
sockets, so that a connection that waits in the backlog outlives any of them. SIGHUP restarts one
process after the other: the next is ready before the last stops accepting.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import structlog

from cli.launch import COMMAND, Launch
from cli.sockets import Sockets
from shared.config import Settings
from shared.http import server
from shared.http.processes import shared_folder
from shared.http.stopping import StopReason

log = structlog.get_logger()

READY_SECONDS_MAX = 60.0
# What a process has after its drain period, before it is killed.
STOP_SECONDS_MAX = server.SHUTDOWN_SECONDS_MAX + 5.0
# A process that ended is started again after this time, which doubles with each failure in a row.
BACKOFF_SECONDS_MIN = 0.5
BACKOFF_SECONDS_MAX = 30.0
# A process that was ready for so long has not failed in a row.
STEADY_SECONDS_MIN = 60.0


class Child:
    """A web process that was started, and the control socket to it."""

    def __init__(
        self, number: int, process: asyncio.subprocess.Process, control: socket.socket
    ) -> None:
        self.number = number
        self.process = process
        self._control = control
        self._replaced = asyncio.Event()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    async def is_ready(self) -> bool:
        """Wait until it serves; False where it ends before, or takes too long."""
        loop = asyncio.get_running_loop()
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(READY_SECONDS_MAX):
                return bool(await loop.sock_recv(self._control, 64))
        return False

    def ask_to_stop(self, reason: StopReason) -> None:
        """Ask it to stop; it may have ended."""
        with suppress(OSError):
            self._control.send(f"{reason.value}\n".encode())

    async def end(self, seconds: float) -> int:
        """Wait for its end, kill it after that time; return its exit code."""
        with suppress(TimeoutError):
            return await asyncio.wait_for(self.process.wait(), seconds)
        log.error("serve.process_killed", process=self.number, pid=self.pid)
        self.kill()
        return await self.process.wait()

    async def end_or_replacement(self) -> int | None:
        """Wait for its end, and return its exit code; None once another process replaces it."""
        ending = asyncio.ensure_future(self.process.wait())
        replacing = asyncio.ensure_future(self._replaced.wait())
        try:
            await asyncio.wait({ending, replacing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()
            replacing.cancel()
        return None if self._replaced.is_set() else self.process.returncode

    def replace(self) -> None:
        """Ask it to leave its place to the process that serves from now on."""
        self._replaced.set()
        self.ask_to_stop(StopReason.REPLACED)

    def kill(self) -> None:
        """Kill it."""
        with suppress(ProcessLookupError):
            self.process.kill()

    def close(self) -> None:
        """Close the control socket."""
        self._control.close()


class Supervisor:
    """Keeps so many processes running on the same sockets."""

    def __init__(
        self, settings: Settings, services: Sequence[str], sockets: Sockets, folder: Path
    ) -> None:
        self._settings = settings
        self._services = list(services)
        self._sockets = sockets
        self._folder = folder
        self._running: dict[int, Child] = {}
        self._all: set[Child] = set()
        # Held while the process of a number is started or replaced.
        self._changing: dict[int, asyncio.Lock] = {}
        self._restart = asyncio.Event()

    async def run(self, count: int, on_ready: Callable[[int], None]) -> int:
        """Run the processes until SIGTERM or SIGINT; return the exit code.

        Where a process does not become ready at first, all end, with its exit code.
        """
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._restart.set)
        stop = server.stop_signal()
        stopping = asyncio.create_task(stop.wait())
        starting = asyncio.create_task(self._start_all(count))
        await asyncio.wait({stopping, starting}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done() or starting.result() is not None:
            stopping.cancel()
            starting.cancel()
            code = await self._stop_all(StopReason.AT_ONCE)
            return code if stop.is_set() else starting.result() or 1
        watching = [asyncio.create_task(self._watch(number)) for number in self._running]
        watching.append(asyncio.create_task(self._restart_in_turn()))
        on_ready(self._sockets.public[0].getsockname()[1])
        await stopping
        for task in watching:
            task.cancel()
        # From here on, who connects after the last process has stopped accepting is refused.
        self._sockets.close()
        return await self._stop_all(StopReason.DRAIN if stop.drains else StopReason.AT_ONCE)

    async def _start_all(self, count: int) -> int | None:
        """Start the first, which says what is wrong with the settings; then the others.

        Returns the exit code of one that did not become ready.
        """
        for numbers in (range(1, 2), range(2, count + 1)):
            children = await asyncio.gather(*map(self._start, numbers))
            for child, ready in zip(
                children, await asyncio.gather(*(c.is_ready() for c in children)), strict=True
            ):
                if not ready:
                    return max(await child.end(STOP_SECONDS_MAX), 1)
                self._running[child.number] = child
        return None

    async def _start(self, number: int, *, replaces: bool = False) -> Child:
        descriptors = self._sockets.descriptors()
        control, its_control = socket.socketpair()
        control.settimeout(0)
        launch = Launch(
            number=number,
            services=self._services,
            sockets=descriptors,
            control=its_control.fileno(),
            folder=str(self._folder),
            replaces=replaces,
        )
        with ExitStack() as unless_started, its_control:
            unless_started.callback(control.close)
            process = await asyncio.create_subprocess_exec(
                # -P: no module of the current folder is imported instead of Prepaid's.
                sys.executable, "-P", "-m", "cli", COMMAND, launch.encode(),
                pass_fds=[*descriptors.all(), its_control.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                # Ctrl-C reaches the supervisor alone.
                process_group=0,
            )  # fmt: skip
            unless_started.pop_all()
        child = Child(number, process, control)
        self._all.add(child)
        log.info("serve.process_started", process=number, pid=child.pid)
        return child

    async def _watch(self, number: int) -> None:
        """Start the process of this number again whenever it ends and was not replaced."""
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            child, ready_at = self._running[number], loop.time()
            code = await child.end_or_replacement()
            if code is None:
                continue
            failures = 1 if loop.time() - ready_at >= STEADY_SECONDS_MIN else failures + 1
            async with self._lock(number):
                if child is self._running[number]:
                    await self._start_again(child, code, failures)

    async def _start_again(self, ended: Child, code: int, failures: int) -> None:
        self._forget(ended)
        seconds = min(BACKOFF_SECONDS_MIN * 2 ** (failures - 1), BACKOFF_SECONDS_MAX)
        log.error(
            "serve.process_ended",
            process=ended.number,
            pid=ended.pid,
            code=code,
            again_in_seconds=seconds,
        )
        await asyncio.sleep(seconds)
        child = await self._start_until_it_can(ended.number)
        self._running[ended.number] = child
        if not await child.is_ready():
            await child.end(STOP_SECONDS_MAX)  # it counts as the next failure

    async def _start_until_it_can(self, number: int) -> Child:
        while True:
            try:
                return await self._start(number)
            except OSError as error:  # no memory, descriptors or processes are left
                log.exception("serve.start_failed", process=number, error=repr(error))
                await asyncio.sleep(BACKOFF_SECONDS_MAX)

    async def _restart_in_turn(self) -> None:
        """Replace all processes at each SIGHUP, and no other where one does not become ready."""
        while True:
            await self._restart.wait()
            self._restart.clear()
            log.info("serve.restarting", processes=len(self._running))
            for number in self._running:
                if not await self._replace(number):
                    break
            else:
                log.info("serve.restarted", processes=len(self._running))

    async def _replace(self, number: int) -> bool:
        """Start the next process of a number, then end the last one.

        While the last one drains, the next is watched, and started again where it ends.
        """
        async with self._lock(number):
            old = self._running[number]
            new = await self._start_replacement(number)
            if new is None:
                return False
            self._running[number] = new
            old.replace()
        await old.end(self._settings.drain_seconds + STOP_SECONDS_MAX)
        self._forget(old)
        if new is not self._running[number] or new.process.returncode is not None:
            log.error("serve.restart_failed", process=number, code=new.process.returncode)
            return False
        return True

    async def _start_replacement(self, number: int) -> Child | None:
        try:
            new = await self._start(number, replaces=True)
        except OSError as error:
            log.exception("serve.restart_failed", process=number, error=repr(error))
            return None
        if not await new.is_ready():
            code = await new.end(STOP_SECONDS_MAX)
            log.error("serve.restart_failed", process=number, code=code)
            self._forget(new)
            return None
        return new

    async def _stop_all(self, reason: StopReason) -> int:
        """Stop every process; return 1 where one was killed or failed."""
        drain_seconds = self._settings.drain_seconds if reason is StopReason.DRAIN else 0
        for child in self._all:
            child.ask_to_stop(reason)
        codes = await asyncio.gather(
            *(child.end(drain_seconds + STOP_SECONDS_MAX) for child in self._all)
        )
        log.info("serve.all_stopped", codes=codes)
        return 1 if any(codes) else 0

    def _lock(self, number: int) -> asyncio.Lock:
        return self._changing.setdefault(number, asyncio.Lock())

    def _forget(self, child: Child) -> None:
        child.close()
        self._all.discard(child)


async def run(
    settings: Settings, services: Sequence[str], count: int, *, on_ready: Callable[[int], None]
) -> int:
    """Serve with so many processes on one port; return the exit code."""
    sockets = await Sockets.bind(settings)
    with shared_folder() as folder:
        return await Supervisor(settings, services, sockets, folder).run(count, on_ready)
