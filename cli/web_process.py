"""One of several web processes on one port, at the other end of its supervisor's control socket.

The supervisor has bound the sockets; each process accepts connections on the same ones. It reports
readiness on the control socket, and is asked there to stop. Where the supervisor is gone, it stops.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from cli.launch import Launch
from cli.sockets import Sockets
from shared.http.processes import WebProcesses
from shared.http.stopping import Stop, StopReason

READY = b"ready\n"


class Supervised:
    """A process's side of its supervision."""

    def __init__(self, launch: Launch) -> None:
        self.services = launch.services
        self.replaces = launch.replaces
        self.sockets = Sockets.inherit(launch.sockets)
        self.processes = WebProcesses(launch.number, Path(launch.folder))
        self._control = socket.socket(fileno=launch.control)

    @asynccontextmanager
    async def obeying(self, stop: Stop) -> AsyncIterator[None]:
        """Stop when the supervisor asks for it or ends."""
        reader, writer = await asyncio.open_unix_connection(sock=self._control)
        listening = asyncio.create_task(_obey(reader, stop))
        self._writer = writer
        try:
            yield
        finally:
            listening.cancel()
            writer.close()

    def ready(self, _port: int) -> None:
        """Report that this process serves."""
        self._writer.write(READY)


async def _obey(reader: asyncio.StreamReader, stop: Stop) -> None:
    # A supervisor that is killed before it has read everything resets the connection.
    with suppress(ConnectionError):
        while message := await reader.readline():
            stop.request(StopReason(message.decode().strip()))
    if stop.is_set():  # a supervisor that ends before its processes was ended at once
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)
    stop.request(StopReason.AT_ONCE)
