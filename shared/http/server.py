"""Runs an aiohttp application and drains it on shutdown."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus

import structlog
from aiohttp import hdrs, web

from shared.errors import ConfigError, InvalidRequestError, PrepaidError
from shared.http import headers, listener
from shared.http.body import BODY_BYTES_MAX
from shared.http.envelope import encode, envelope, from_http_exception
from shared.http.middleware import REQUEST_ID, request_edge
from shared.http.stopping import Stop
from shared.ids import new_request_id

log = structlog.get_logger()

SHUTDOWN_SECONDS_MAX = 10
KEEPALIVE_SECONDS = 75
# How long a client that is still sending has to read the response before a reset.
LINGERING_SECONDS = 1.0
LINGERING_TICK_SECONDS = 0.05
# Descriptors for other things than client connections: servers, Stripe, files.
DESCRIPTORS_RESERVED = 64
# New objects between two searches for cyclic garbage. Requests leave hardly any, and with the
# default of 700 the searches took a twentieth of a debit.
GC_OBJECTS = 20_000
# During shutdown, a connection that has been silent for this long has no request in flight.
QUIET_SECONDS = 0.2
CLOSING_TICK_SECONDS = 0.02
NOT_HTTP = "The request cannot be read: its line, a header or the framing of its body is malformed."
CONTINUE = "100-continue"
NOT_EXPECTED = f"Expect: {CONTINUE} is served, and no other."
_Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def create_app(routes: Sequence[web.RouteDef]) -> web.Application:
    """Return an application with the error envelope, request ids and the body limit."""
    app = web.Application(middlewares=[request_edge], client_max_size=BODY_BYTES_MAX)
    app.add_routes(routes)
    app.on_response_prepare.append(headers.on_prepare)
    return app


class Runner(web.AppRunner):
    """Runs an application that answers malformed requests with the error envelope too."""

    def __init__(self, app: web.Application) -> None:
        super().__init__(
            app,
            access_log=None,
            keepalive_timeout=KEEPALIVE_SECONDS,
            shutdown_timeout=SHUTDOWN_SECONDS_MAX,
            lingering_time=LINGERING_SECONDS,
            auto_decompress=False,  # a megabyte can decompress to a gigabyte
        )
        self._listener: listener.Listener | None = None

    def listen(self, sockets: Sequence[socket.socket], descriptors_reserved: int) -> int:
        """Accept connections on bound sockets; return the port."""
        server = self._prepaid_server()
        limit = listener.connection_limit(descriptors_reserved)
        accepting = listener.Listener(sockets, server, lambda: server.accepted, limit)
        self._listener = server.listener = accepting
        accepting.start()
        bound_port: int = sockets[0].getsockname()[1]
        return bound_port

    def stop_accepting(self) -> None:
        """Leave new connections to other processes on the same sockets, also those that wait.

        Open ones are served with `Connection: close`.
        """
        self._prepaid_server().draining = True
        if self._listener is not None:
            self._listener.close(accept_waiting=False)

    async def drain(self, seconds: float) -> None:
        """Drain connections: keep serving with `Connection: close`, then stop accepting.

        For `seconds`, the load balancer has time to notice that this process is not ready, and
        clients of a replaced one to begin their next request. After that, idle connections are
        closed at once and busy ones after their response.
        """
        server = self._prepaid_server()
        server.draining = True
        loop = asyncio.get_running_loop()
        drained_at = loop.time() + seconds
        while loop.time() < drained_at and (server.accepted or self._accepts):  # noqa: ASYNC110
            await asyncio.sleep(CLOSING_TICK_SECONDS)
        if self._listener is not None:
            self._listener.close()
            await self._listener.wait_closed()
        end = loop.time() + SHUTDOWN_SECONDS_MAX
        while server.accepted and loop.time() < end:
            for connection in server.accepted:
                since = connection.idle_since()
                quiet = since is not None and since <= loop.time() - QUIET_SECONDS
                if quiet and not listener.has_input(connection):
                    connection.force_close()
            await asyncio.sleep(CLOSING_TICK_SECONDS)

    async def cleanup(self) -> None:
        """Close the remaining connections."""
        if self._listener is not None:
            self._listener.close()
        await super().cleanup()

    @property
    def _accepts(self) -> bool:
        return self._listener is not None and not self._listener.closed

    def _prepaid_server(self) -> _Server:
        server = self.server
        assert isinstance(server, _Server)  # noqa: S101 - `setup` has created it
        return server

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            _in_envelope(made.request_handler),
            request_factory=made.request_factory,
            loop=asyncio.get_running_loop(),
            **self._kwargs,
        )


class _Server(web.Server):
    """The protocol factory: tracks its connections and whether it is draining."""

    draining = False
    listener: listener.Listener | None = None

    @property
    def accepted(self) -> list[_Connection]:
        """The connections that are open."""
        return [c for c in self.connections if isinstance(c, _Connection) and c.transport]

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        super().connection_lost(handler, exc)
        if self.listener is not None:
            self.listener.connection_lost()

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    """A connection that answers in the envelope where no middleware runs, as for malformed HTTP."""

    __slots__ = ()

    def idle_since(self) -> float | None:
        """Return the loop time since when it has been idle; None while it is busy."""
        waits = self._waiter is not None and not self._waiter.done() and not self._messages
        return self._next_keepalive_close_time - self._keepalive_timeout if waits else None

    def descriptor(self) -> int | None:
        """Return the descriptor of its socket while it is open."""
        if self.transport is None or self.transport.is_closing():
            return None
        found: int = self.transport.get_extra_info("socket").fileno()
        return found if found >= 0 else None

    def unsent_bytes(self) -> int:
        """Return how many bytes of its responses are not sent yet."""
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def abort(self) -> None:
        """Close it without sending the rest."""
        if self.transport is not None:
            self.transport.abort()

    async def finish_response(
        self,
        request: web.BaseRequest,
        resp: web.StreamResponse,
        start_time: float | None,
    ) -> tuple[web.StreamResponse, bool]:
        """Send a response; during a drain it is the connection's last.

        After the last response, the rest of a rejected body is not read.
        """
        if isinstance(self._manager, _Server) and self._manager.draining:
            resp.force_close()
        unread = resp.keep_alive is False and not request.content.is_eof()
        if unread and self.transport is not None:
            self.transport.pause_reading()
        sent = await super().finish_response(request, resp, start_time)
        if unread:
            await self._linger()
        return sent

    async def _linger(self) -> None:
        """Wait until the client has read the response and closes its side."""
        self._lingering_time = 0  # the base class would read the rest
        if self.transport is not None and self.transport.can_write_eof():
            self.transport.write_eof()
        end = self._loop.time() + LINGERING_SECONDS
        while not listener.has_hung_up(self) and self._loop.time() < end:  # noqa: ASYNC110 - no event
            await asyncio.sleep(LINGERING_TICK_SECONDS)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it describes the parser, not the request
    ) -> web.StreamResponse:
        """Return the response to a malformed request, or to a failure outside of any handler."""
        if request.writer.output_size > 0:
            raise ConnectionError("The response has begun; another cannot be sent.")
        if status == HTTPStatus.BAD_REQUEST:
            log.info("http.malformed", error=type(exc).__name__)  # its text may contain a secret
            response = _refusal(InvalidRequestError(NOT_HTTP))
        else:
            log.error("http.failed", exc_info=exc)
            response = _refusal(PrepaidError())
        response.force_close()
        return response


def _in_envelope(handler: _Handler) -> _Handler:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        # Checked before aiohttp does, which fails on an Expect header that is not text.
        if request.headers.get(hdrs.EXPECT, CONTINUE).lower() != CONTINUE:
            return _refusal(InvalidRequestError(NOT_EXPECTED))
        try:
            return await handler(request)
        except web.HTTPException as error:  # outside of any middleware
            if error.status < HTTPStatus.BAD_REQUEST:
                raise
            return _refusal(from_http_exception(error))

    return handle


def _refusal(error: PrepaidError) -> web.Response:
    return headers.BareResponse(
        body=encode(envelope(error)),
        status=error.status,
        content_type="application/json",
        headers={REQUEST_ID: new_request_id()},
    )


async def bind(host: str, port: int, *, port_variable: str = "PORT") -> list[socket.socket]:
    """Return sockets bound to an address, not yet listening.

    Raises ConfigError, which names the setting, where the address cannot be listened on.
    """
    try:
        return await listener.bind(host, port)
    except OSError as error:
        raise _cannot_listen(error, host, port, port_variable) from error


async def start(
    app: web.Application,
    sockets: Sequence[socket.socket],
    *,
    descriptors_reserved: int = DESCRIPTORS_RESERVED,
    port_variable: str = "PORT",
) -> tuple[Runner, int]:
    """Listen; return the runner (stopped by its `cleanup`) and the port, useful where it was 0.

    `descriptors_reserved` of the open-files limit are left for other things than connections.
    Raises ConfigError where another process has begun to listen since the sockets were bound.
    """
    # Everything loaded so far lives as long as the process: exclude it from garbage collection.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_OBJECTS)
    runner = Runner(app)
    await runner.setup()
    try:
        port = runner.listen(sockets, descriptors_reserved)
    except OSError as error:
        host, port = sockets[0].getsockname()[:2]
        raise _cannot_listen(error, host, port, port_variable) from error
    log.info("http.listening", host=sockets[0].getsockname()[0], port=port)
    return runner, port


def _cannot_listen(error: OSError, host: str, port: int, port_variable: str) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        return ConfigError(
            port_variable,
            f"{port} is in use on {host}. Stop what listens there, or set another port.",
        )
    if error.errno == errno.EACCES:
        return ConfigError(
            port_variable, f"this user may not listen on {port}. Set another port, above 1023."
        )
    return ConfigError(
        "HOST", f"cannot listen on {host}. Set it to an address of this machine, such as 0.0.0.0."
    )


def stop_signal() -> Stop:
    """Return an event that SIGTERM and SIGINT set, for a process to wait on."""
    stop = Stop()
    stop.listen()
    return stop
