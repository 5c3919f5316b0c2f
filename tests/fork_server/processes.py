"""Start programs as children of a fork server, as `asyncio.create_subprocess_exec` starts them."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from asyncio.base_subprocess import BaseSubprocessTransport
from asyncio.subprocess import Process, SubprocessStreamProtocol
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import msgspec

from tests.fork_server.server import MESSAGE_BYTES_MAX, PROGRAMS, SERVER, Ended, Request, Started

ROOT = Path(__file__).parents[2]
START_SECONDS_MAX = 100  # the first program waits until everything is imported
LINE_BYTES_MAX = 2**16
STREAMS = ("stdin", "stdout", "stderr")
# Variables that take effect when a program is executed, and not after.
NEED_AN_EXECUTION = ("COVERAGE_", "LD_", "PYTHONWARNINGS")

_decode = msgspec.json.Decoder(Started | Ended).decode


class ForkServer:
    """The process that forks; it ends with this one, or when it is closed."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._pids: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._ends: dict[int, int] = {}
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._ended = threading.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Its children have the variables that they are given, and buffer as programs do.
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", SERVER, str(theirs.fileno())],
                cwd=ROOT,
                env=environment,
                pass_fds=[theirs.fileno()],
            )
        threading.Thread(target=self._read, name="fork server", daemon=True).start()

    def fork(self, request: Request, descriptors: list[int]) -> int:
        """Start a program; return its process id."""
        with self._turn:
            socket.send_fds(self._control, [msgspec.json.encode(request)], descriptors)
            return self._pids.get(timeout=START_SECONDS_MAX)

    def when_ended(self, pid: int, callback: Callable[[int], None]) -> None:
        """Call back, in a thread, with the exit code of a child, once."""
        with self._ended:
            if pid not in self._ends:
                self._callbacks[pid] = callback
                return
        callback(self._ends.pop(pid))

    def close(self) -> None:
        """End the server; its children go on."""
        self._control.shutdown(socket.SHUT_RDWR)
        self._process.wait()
        self._control.close()

    def _read(self) -> None:
        while message := self._control.recv(MESSAGE_BYTES_MAX):
            found = _decode(message)
            if isinstance(found, Started):
                self._pids.put(found.pid)
                continue
            with self._ended:
                callback = self._callbacks.pop(found.pid, None)
                if callback is None:
                    self._ends[found.pid] = found.code
            if callback is not None:
                callback(found.code)


class _Forked:
    """What a transport of asyncio's needs of `subprocess.Popen`. It reaps nothing."""

    def __init__(
        self, server: ForkServer, request: Request, stdin: Any, stdout: Any, stderr: Any
    ) -> None:
        self.returncode: int | None = None
        self.stdin: IO[bytes] | None = None
        self.stdout: IO[bytes] | None = None
        self.stderr: IO[bytes] | None = None
        given: list[int] = []
        try:
            for number, wanted in enumerate((stdin, stdout, stderr)):
                given.append(self._descriptor(number, wanted, given))
            self.pid = server.fork(request, given)
        finally:
            for descriptor in given:
                os.close(descriptor)

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _descriptor(self, number: int, wanted: Any, given: list[int]) -> int:
        """Return a descriptor for the child; of a pipe, the end of this process is kept here."""
        if wanted == subprocess.PIPE:
            theirs, ours = os.pipe() if number == 0 else reversed(os.pipe())
            file = os.fdopen(ours, "wb" if number == 0 else "rb", buffering=0)
            setattr(self, STREAMS[number], file)
            return theirs
        if wanted == subprocess.DEVNULL:
            return os.open(os.devnull, os.O_RDWR)
        if wanted == subprocess.STDOUT:
            return os.dup(given[1])
        if wanted is None:
            return os.dup(number)
        return os.dup(wanted if isinstance(wanted, int) else wanted.fileno())


class _Transport(BaseSubprocessTransport):
    """The pipes of a forked process, and its end."""

    def __init__(self, server: ForkServer, request: Request, **options: Any) -> None:
        self._server = server
        self._request = request
        super().__init__(args=(request.module,), shell=False, bufsize=0, **options)

    def _start(self, *_: Any, **options: Any) -> None:
        pipes = (options[name] for name in STREAMS)
        forked = _Forked(self._server, self._request, *pipes)
        self._proc = forked  # type: ignore[assignment] # it stands in for a Popen
        self._server.when_ended(forked.pid, self._tell)

    def _tell(self, code: int) -> None:
        with suppress(RuntimeError):  # the test is over, and its loop is closed
            self._loop.call_soon_threadsafe(self._process_exited, code)


class Forks:
    """Starts programs by forks; the server starts with the first of them."""

    def __init__(self) -> None:
        self._server: ForkServer | None = None
        self._starting = threading.Lock()

    async def create_subprocess_exec(
        self,
        program: str | Path,
        *args: str,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: Any = None,
        stdout: Any = None,
        stderr: Any = None,
    ) -> Process:
        """Start a program as asyncio does: by a fork where that comes to the same."""
        environment = dict(os.environ if env is None else env)
        if not _may_be_forked(str(program), args, environment):
            return await asyncio.create_subprocess_exec(
                program, *args, cwd=cwd, env=env, stdin=stdin, stdout=stdout, stderr=stderr
            )
        server = await asyncio.to_thread(self._started)
        request = Request(args[1], list(args[2:]), str(cwd or Path.cwd()), environment)
        loop = asyncio.get_running_loop()
        protocol = SubprocessStreamProtocol(limit=LINE_BYTES_MAX, loop=loop)
        ready = loop.create_future()
        transport = _Transport(
            server,
            request,
            loop=loop,
            protocol=protocol,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            waiter=ready,
        )
        await ready
        return Process(transport, protocol, loop)

    def close(self) -> None:
        """End the server, if it has started."""
        if self._server is not None:
            self._server.close()

    def _started(self) -> ForkServer:
        with self._starting:
            server = self._server = self._server or ForkServer()
            return server


def _may_be_forked(program: str, args: tuple[str, ...], environment: Mapping[str, str]) -> bool:
    return (
        program == sys.executable
        and args[:1] == ("-m",)
        and args[1] in PROGRAMS
        and not any(name.startswith(NEED_AN_EXECUTION) for name in environment)
    )
