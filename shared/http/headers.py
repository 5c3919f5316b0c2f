"""Headers of every answer: no cache keeps it, and nothing says what software gave it."""

from __future__ import annotations

from aiohttp import hdrs, web

# A page or file that sets its own values keeps them.
_DEFAULTS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def protect(response: web.StreamResponse) -> None:
    """Complete the headers of an answer that is about to be sent."""
    for name, value in _DEFAULTS.items():
        response.headers.setdefault(name, value)
    response.headers.popall(hdrs.SERVER, None)


async def on_prepare(_request: web.Request, response: web.StreamResponse) -> None:
    """Complete the headers of an application's answer: a signal of aiohttp's."""
    protect(response)


class BareResponse(web.Response):
    """An answer outside of any application, where no signal reaches it."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        protect(self)
