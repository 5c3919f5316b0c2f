"""Keeps web pages out of the control API, which asks for no key.

A page in the browser of whoever runs the simulator can send requests to loopback: by a form, or by
a name of its own that resolves to 127.0.0.1 (DNS rebinding). The first cannot send JSON or leave
out `Origin`, the second says its name as `Host`.
"""

from typing import Final
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from sandbox.stripe import errors

PREFIX: Final = "/_sim/"
LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


@web.middleware
async def guard_control(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what another site may have sent: 403, or 415 for a body that is not JSON."""
    if request.path.startswith(PREFIX) and (refused := _refusal(request)) is not None:
        return web.json_response(refused.body(), status=refused.status)
    return await handler(request)


def _refusal(request: web.Request) -> errors.ApiError | None:
    host, origin = request.headers.get("Host", ""), request.headers.get("Origin")
    if not _is_loopback(f"http://{host}") or (origin is not None and not _is_loopback(origin)):
        return _refused(403, "The control API answers on loopback alone, and to no other site.")
    if request.can_read_body and request.content_type != "application/json":
        return _refused(415, "Send the body as application/json.")
    return None


def _is_loopback(url: str) -> bool:
    try:
        return urlsplit(url).hostname in LOOPBACK
    except ValueError:
        return False


def _refused(status: int, message: str) -> errors.ApiError:
    return errors.ApiError(status, "invalid_request_error", message, stored=False)
