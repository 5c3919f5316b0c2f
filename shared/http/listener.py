"""Accepts connections up to a limit; further ones wait in the backlog and are not reset."""

from __future__ import annotations

import asyncio
import errno
import resource
import select
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import structlog

from shared import metrics

log = structlog.get_logger()

BACKLOG = 1024
CONNECTIONS_MIN = 16
CONNECTIONS_MAX = 10_000
# One: a burst of new connections does not delay requests on open connections.
ACCEPTS_AT_ONCE_MAX = 1
# At the limit, a connection that has been idle for this long is closed for a new one.
IDLE_SECONDS_MIN = 2.0
EVICTIONS_AT_ONCE_MAX = 16
RETRY_SECONDS = 0.1
LIMIT_OVER_SHARE = 0.9
# A client that reads nothing of its response for two such intervals is gone.
STALL_SECONDS_MAX = 10.0
_NO_DESCRIPTORS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Connection(Protocol):
    """An accepted connection."""

    def idle_since(self) -> float | None:
        """Return the loop time since when it has been idle; None while it is busy."""

    def descriptor(self) -> int | None:
        """Return the descriptor of its socket while it is open."""

    def force_close(self) -> None:
        """Close it."""

    def unsent_bytes(self) -> int:
        """Return how many bytes of its responses are not sent yet."""

    def abort(self) -> None:
        """Close it without sending the rest."""


def connection_limit(descriptors_reserved: int) -> int:
    """Return how many connections fit into this process's limit of open files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return max(CONNECTIONS_MIN, min(CONNECTIONS_MAX, soft - descriptors_reserved))


async def bind(host: str, port: int) -> list[socket.socket]:
    """Return a socket for each address of a host, bound and not yet listening; raise OSError."""
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    bound: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(addresses):
            created = socket.socket(family, kind, protocol)
            bound.append(created)
            created.settimeout(0)
            created.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                created.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            created.bind(address)
    except OSError:
        for created in bound:
            created.close()
        raise
    return bound


def has_input(connection: Connection) -> bool:
    """Whether unread bytes are waiting: a request is about to begin."""
    descriptor = connection.descriptor()
    if descriptor is None:
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def has_hung_up(connection: Connection) -> bool:
    """Whether the client has closed its side, even with unread bytes before that."""
    descriptor = connection.descriptor()
    if descriptor is None:
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLRDHUP)
    return bool(poll.poll(0))


class Listener:
    """Accepts on sockets, and logs once when the limit is reached and once when that is over.

    At the limit, the connections that have been idle longest are closed. Where none is idle,
    nothing is accepted: clients wait in the kernel's backlog until a connection ends.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        protocol_factory: Callable[[], asyncio.Protocol],
        connections: Callable[[], Iterable[Connection]],
        limit: int,
    ) -> None:
        self.sockets = sockets
        self._protocol_factory = protocol_factory
        self._connections = connections
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._open = 0
        self._accepting = False
        self._closed = False
        self._retry: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._reached_at: float | None = None
        self._closed_idle = 0
        self._unsent: dict[int, int] = {}
        self._sweep_timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Listen."""
        for listening in self.sockets:
            listening.listen(BACKLOG)
        self._resume()
        self._sweep_timer = self._loop.call_later(STALL_SECONDS_MAX, self._abort_stalled)

    def close(self, *, accept_waiting: bool = True) -> None:
        """Accept the connections in the backlog, then close the sockets.

        Without `accept_waiting` the backlog is left to other processes with the same sockets.
        """
        if self._closed:
            return
        if accept_waiting:
            for listening in self.sockets:
                self._accept(listening, at_once_max=BACKLOG)
        self._pause()
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        self._closed = True
        for listening in self.sockets:
            listening.close()

    @property
    def closed(self) -> bool:
        """Whether it accepts no more connections."""
        return self._closed

    async def wait_closed(self) -> None:
        """Wait until every accepted connection is being served."""
        await asyncio.gather(*self._tasks)

    def connection_lost(self) -> None:
        """Count a closed connection; another may be accepted."""
        self._open -= 1
        metrics.HTTP_CONNECTIONS.set(self._open)
        self._resume()

    def _resume(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._accepting or self._closed:
            return
        self._accepting = True
        for listening in self.sockets:
            self._loop.add_reader(listening, self._accept, listening)

    def _pause(self) -> None:
        if self._accepting:
            self._accepting = False
            for listening in self.sockets:
                self._loop.remove_reader(listening)
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _accept(self, listening: socket.socket, at_once_max: int = ACCEPTS_AT_ONCE_MAX) -> None:
        for _ in range(at_once_max):
            if self._open >= self._limit:
                self._wait_for_room("limit")
                return
            try:
                accepted, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NO_DESCRIPTORS:
                    raise
                self._wait_for_room(errno.errorcode[error.errno])
                return
            accepted.settimeout(0)
            self._open += 1
            metrics.HTTP_CONNECTIONS.set(self._open)
            serving = self._loop.create_task(self._serve(accepted))
            self._tasks.add(serving)
            serving.add_done_callback(self._tasks.discard)

    async def _serve(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol_factory, accepted)
        except OSError:  # the client has disconnected already
            accepted.close()
            self.connection_lost()

    def _wait_for_room(self, reason: str) -> None:
        self._log_reached(reason)
        self._pause()
        self._closed_idle += self._close_idle()
        self._retry = self._loop.call_later(RETRY_SECONDS, self._resume)

    def _close_idle(self) -> int:
        before = self._loop.time() - IDLE_SECONDS_MIN
        idle = [
            (since, connection)
            for connection in self._connections()
            if (since := connection.idle_since()) is not None and since <= before
        ]
        idle.sort(key=lambda entry: entry[0])
        closing = [c for _, c in idle[:EVICTIONS_AT_ONCE_MAX] if not has_input(c)]
        for connection in closing:
            connection.force_close()
        return len(closing)

    def _abort_stalled(self) -> None:
        """Abort connections whose clients have read nothing since the last check."""
        unsent: dict[int, int] = {}
        for connection in list(self._connections()):
            waiting_bytes = connection.unsent_bytes()
            if waiting_bytes and self._unsent.get(id(connection)) == waiting_bytes:
                connection.abort()
            elif waiting_bytes:
                unsent[id(connection)] = waiting_bytes
        self._unsent = unsent
        self._sweep_timer = self._loop.call_later(STALL_SECONDS_MAX, self._abort_stalled)

    def _log_reached(self, reason: str) -> None:
        if self._reached_at is None:
            self._reached_at = time.monotonic()
            self._closed_idle = 0
            log.warning("http.connection_limit_reached", limit=self._limit, reason=reason)
            self._loop.call_later(1, self._check_if_over, self._reached_at)

    def _check_if_over(self, reached_at: float) -> None:
        if self._open > LIMIT_OVER_SHARE * self._limit and not self._closed:
            self._loop.call_later(1, self._check_if_over, reached_at)
            return
        self._reached_at = None
        log.warning(
            "http.connection_limit_over",
            seconds=round(time.monotonic() - reached_at, 1),
            idle_closed=self._closed_idle,
        )
