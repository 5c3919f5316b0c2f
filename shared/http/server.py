"""Runs an aiohttp application until it is told to stop."""

from __future__ import annotations

import asyncio
import errno
import gc
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
# How long a client that still sends has to read its answer, before its connection is reset.
LINGERING_SECONDS = 1.0
LINGERING_TICK_SECONDS = 0.05
# Descriptors that are no connection of a client's: servers, Stripe, files.
DESCRIPTORS_RESERVED = 64
# Whoever has been silent for so long, at the end, has no request under way.
QUIET_SECONDS = 0.2
CLOSING_TICK_SECONDS = 0.02
NOT_HTTP = "The request cannot be read: its line, a header or the framing of its body is malformed."
CONTINUE = "100-continue"
NOT_EXPECTED = f"Expect: {CONTINUE} is served, and no other."
_Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def create_app(routes: Sequence[web.RouteDef]) -> web.Application:
    """Return an application with the house's error envelope, request ids and body limit."""
    app = web.Application(middlewares=[request_edge], client_max_size=BODY_BYTES_MAX)
    app.add_routes(routes)
    app.on_response_prepare.append(headers.on_prepare)
    return app


class Runner(web.AppRunner):
    """Runs an application whose every answer is in the envelope, of broken requests too."""

    def __init__(self, app: web.Application) -> None:
        super().__init__(
            app,
            access_log=None,
            keepalive_timeout=KEEPALIVE_SECONDS,
            shutdown_timeout=SHUTDOWN_SECONDS_MAX,
            lingering_time=LINGERING_SECONDS,
            auto_decompress=False,  # a megabyte can unpack to a gigabyte, of which nobody reads one
        )
        self._listener: listener.Listener | None = None

    async def listen(self, host: str, port: int, descriptors_reserved: int) -> int:
        """Accept connections at an address; return the port. Raises OSError."""
        server = self._prepaid_server()
        sockets = await listener.bind(host, port)
        limit = listener.connection_limit(descriptors_reserved)
        accepting = listener.Listener(sockets, server, lambda: server.accepted, limit)
        self._listener = server.listener = accepting
        accepting.start()
        found: int = sockets[0].getsockname()[1]
        return found

    async def drain(self, seconds: float) -> None:
        """Let the clients go: answer everything, tell each connection to close, then refuse new.

        For so many seconds whoever balances the load has time to notice that this process is not
        ready. Then those that are silent are closed, and those with a request once it is answered.
        """
        server = self._prepaid_server()
        server.draining = True
        await asyncio.sleep(seconds)
        if self._listener is not None:
            self._listener.close()
            await self._listener.wait_closed()
        loop = asyncio.get_running_loop()
        end = loop.time() + SHUTDOWN_SECONDS_MAX
        while server.accepted and loop.time() < end:
            for connection in server.accepted:
                since = connection.idle_since()
                quiet = since is not None and since <= loop.time() - QUIET_SECONDS
                if quiet and not listener.has_input(connection):
                    connection.force_close()
            await asyncio.sleep(CLOSING_TICK_SECONDS)

    async def cleanup(self) -> None:
        """Close what is left."""
        if self._listener is not None:
            self._listener.close()
        await super().cleanup()

    def _prepaid_server(self) -> _Server:
        server = self.server
        assert isinstance(server, _Server)  # noqa: S101 - `setup` has made it
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
    """Knows its connections, whether it drains, and who accepts for it."""

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
    """Answers for itself where no middleware is reached: what came is not HTTP, say."""

    __slots__ = ()

    def idle_since(self) -> float | None:
        """Return since when it waits for a request, by the loop's clock; None if it is busy."""
        waits = self._waiter is not None and not self._waiter.done() and not self._messages
        return self._next_keepalive_close_time - self._keepalive_timeout if waits else None

    def descriptor(self) -> int | None:
        """Return the descriptor of its socket while it is open."""
        if self.transport is None or self.transport.is_closing():
            return None
        found: int = self.transport.get_extra_info("socket").fileno()
        return found if found >= 0 else None

    def unsent_bytes(self) -> int:
        """Return how many bytes of its answers the client has not taken."""
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def abort(self) -> None:
        """Close it without sending what is left."""
        if self.transport is not None:
            self.transport.abort()

    async def finish_response(
        self,
        request: web.BaseRequest,
        resp: web.StreamResponse,
        start_time: float | None,
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer; while the process drains, it is the connection's last.

        Where it is the last, the rest of a body that was refused is not read: it costs nothing.
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
        """Wait until the client has read the answer, and hangs up."""
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
        message: str | None = None,  # noqa: ARG002 - it speaks of the parser, not of the request
    ) -> web.StreamResponse:
        """Return the answer to what could not be read, or went wrong outside of any handler."""
        if request.writer.output_size > 0:
            raise ConnectionError("The answer has begun; another cannot be sent.")
        if status == HTTPStatus.BAD_REQUEST:
            log.info("http.malformed", error=type(exc).__name__)  # its text may hold a secret
            response = _refusal(InvalidRequestError(NOT_HTTP))
        else:
            log.error("http.failed", exc_info=exc)
            response = _refusal(PrepaidError())
        response.force_close()
        return response


def _in_envelope(handler: _Handler) -> _Handler:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        # Before aiohttp looks at it: an Expect that is no text would be a failure there.
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


async def start(
    app: web.Application,
    host: str,
    port: int,
    *,
    port_variable: str = "PORT",
    descriptors_reserved: int = DESCRIPTORS_RESERVED,
) -> tuple[Runner, int]:
    """Listen; return the runner (its `cleanup` stops it) and the port, which may have been 0.

    So many of the files that the process may open are left for other things than connections.

    Raises ConfigError where the address cannot be listened on: it names the setting.
    """
    # What is loaded by now lives as long as the process: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    runner = Runner(app)
    await runner.setup()
    try:
        bound_port = await runner.listen(host, port, descriptors_reserved)
    except OSError as error:
        await runner.cleanup()
        raise _cannot_listen(error, host, port, port_variable) from error
    log.info("http.listening", host=host, port=bound_port)
    return runner, bound_port


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
