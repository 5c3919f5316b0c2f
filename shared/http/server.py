"""Runs an aiohttp application until it is told to stop."""

from __future__ import annotations

import asyncio
import errno
import gc
import signal
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus

import structlog
from aiohttp import web

from shared.errors import ConfigError, InvalidRequestError, PrepaidError
from shared.http.body import BODY_BYTES_MAX
from shared.http.envelope import error_response, from_http_exception
from shared.http.middleware import REQUEST_ID, request_edge
from shared.ids import new_request_id

log = structlog.get_logger()

SHUTDOWN_SECONDS_MAX = 10
KEEPALIVE_SECONDS = 75
# How long the rest of a body that was refused is still taken, so that the client reads the answer
# before its connection is reset.
LINGERING_SECONDS = 1.0
BACKLOG = 1024
NOT_HTTP = "The request cannot be read: its line, a header or the framing of its body is malformed."
_Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def create_app(routes: Sequence[web.RouteDef]) -> web.Application:
    """Return an application with the house's error envelope, request ids and body limit."""
    app = web.Application(middlewares=[request_edge], client_max_size=BODY_BYTES_MAX)
    app.add_routes(routes)
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

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            _in_envelope(made.request_handler),
            request_factory=made.request_factory,
            loop=asyncio.get_running_loop(),
            **self._kwargs,
        )


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    """Answers for itself where no middleware is reached: what came is not HTTP, say."""

    __slots__ = ()

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
        try:
            return await handler(request)
        except web.HTTPException as error:  # before any middleware: an Expect that is not known
            if error.status < HTTPStatus.BAD_REQUEST:
                raise
            return _refusal(from_http_exception(error))

    return handle


def _refusal(error: PrepaidError) -> web.Response:
    response = error_response(error)
    response.headers[REQUEST_ID] = new_request_id()
    return response


async def start(
    app: web.Application, host: str, port: int, *, port_variable: str = "PORT"
) -> tuple[Runner, int]:
    """Listen; return the runner (its `cleanup` stops it) and the port, which may have been 0.

    Raises ConfigError where the address cannot be listened on: it names the setting.
    """
    # What is loaded by now lives as long as the process: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    runner = Runner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=BACKLOG).start()
    except OSError as error:
        await runner.cleanup()
        raise _cannot_listen(error, host, port, port_variable) from error
    bound_port: int = runner.addresses[0][1]
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


def stop_signal() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set, for a process to wait on."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
