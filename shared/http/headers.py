"""Security headers of every response: no caching, no sniffing, no server name."""

from __future__ import annotations

from aiohttp import hdrs, web
from multidict import istr

# Defaults: a page or file may set its own values.
_DEFAULTS = {
    istr("Cache-Control"): "no-store",
    istr("Referrer-Policy"): "no-referrer",
    istr("X-Content-Type-Options"): "nosniff",
}


def add_defaults(response: web.StreamResponse) -> None:
    """Add the default headers to a response that is about to be sent."""
    for name, value in _DEFAULTS.items():
        response.headers.setdefault(name, value)
    response.headers.popall(hdrs.SERVER, None)


async def on_prepare(_request: web.Request, response: web.StreamResponse) -> None:
    """Add the default headers: the handler of aiohttp's `on_response_prepare` signal."""
    add_defaults(response)


class BareResponse(web.Response):
    """A response sent outside of any application, where no signal is emitted."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        add_defaults(self)
