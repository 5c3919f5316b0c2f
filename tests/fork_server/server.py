"""A process that forks a child for each program that tests start with `python -m MODULE`.

All modules are imported once, which is most of a short program's work. A child runs its module from
the top as `__main__`, with a folder, variables and descriptors of its own, and ends as a program
does. Requests and answers are messages on the socket whose descriptor is the argument.
"""

from __future__ import annotations

import gc
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import sys
from contextlib import suppress
from importlib import import_module

import msgspec

MESSAGE_BYTES_MAX = 200_000
# stdin, stdout and stderr.
DESCRIPTORS = 3
SERVER = "tests.fork_server.server"
# What its children may run, and what is imported for that. A module that a child runs is not among
# them: it would run with what another name of it has set up.
PROGRAMS = frozenset({"cli", "sandbox.stripe", "tests.fixtures.checked_simulator"})
IMPORTS = (
    "cli.app",
    "cli.serve",
    "worker.main",
    "sandbox.stripe.app",
    "tests.fixtures.stripe_shapes",
)
PACKAGES = ("cli.commands", "cli.checks")


class Request(msgspec.Struct):
    """A program to run: a module, its arguments, folder and all its variables."""

    module: str
    arguments: list[str]
    folder: str
    environment: dict[str, str]


class Started(msgspec.Struct, tag=True):
    """The answer to a request."""

    pid: int


class Ended(msgspec.Struct, tag=True):
    """A child has ended: with an exit code, or by a signal, which is negative."""

    pid: int
    code: int


def import_all() -> None:
    """Import what programs import, and leave it out of every collection of garbage."""
    for name in IMPORTS:
        import_module(name)
    for package in PACKAGES:
        for module in pkgutil.iter_modules(import_module(package).__path__, f"{package}."):
            import_module(module.name)
    gc.freeze()


class Server:
    """Forks one child at a time; never returns in the process that it is in, but in each child."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._before = signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)

    def run(self) -> Request:
        """Serve until the other side closes; in a child, return its request."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._woken:
                        self._woken.recv(4096)
                        self._report_ends()
                    elif request := self._fork():
                        return request

    def _fork(self) -> Request | None:
        message, descriptors, _, _ = socket.recv_fds(self._control, MESSAGE_BYTES_MAX, DESCRIPTORS)
        if not message:  # the other side has ended
            os._exit(0)
        request = msgspec.json.decode(message, type=Request)
        pid = os.fork()
        if pid == 0:
            self._become(request, descriptors)
            return request
        for descriptor in descriptors:
            os.close(descriptor)
        self._control.send(msgspec.json.encode(Started(pid)))
        return None

    def _report_ends(self) -> None:
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended
                code = os.waitstatus_to_exitcode(status)
                self._control.send(msgspec.json.encode(Ended(pid, code)))

    def _become(self, request: Request, descriptors: list[int]) -> None:
        """Give a child its own descriptors, signals, folder and variables."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, self._before)
        for held in (self._control, self._woken, self._waker):
            held.close()
        for target, descriptor in enumerate(descriptors):
            os.dup2(descriptor, target)
            os.close(descriptor)
        os.chdir(request.folder)
        os.environ.clear()
        os.environ.update(request.environment)
        sys.argv = [request.module, *request.arguments]


def main() -> None:
    """Serve; a child runs its module last, so that it ends as a program does."""
    import_all()
    request = Server(socket.socket(fileno=int(sys.argv[1]))).run()
    for name in (request.module, f"{request.module}.__main__"):
        sys.modules.pop(name, None)
    runpy.run_module(request.module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
