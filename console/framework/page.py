"""Pages as data: method, path, handler, and who may open them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from console.framework.context import Visit

ROOT = "/console"
Handler = Callable[[Visit], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page (GET) or an act (POST).

    `for_bound_keys`: also for sessions that are bound to one organization; its handler then checks
    the organization of whatever it shows. Other pages answer them 404. An act needs the role
    operate unless `viewers_may`.
    """

    method: str
    path: str
    handle: Handler
    for_bound_keys: bool = False
    viewers_may: bool = False

    @property
    def needs_operator(self) -> bool:
        """Whether a session that may only view is refused."""
        return self.method == "POST" and not self.viewers_may


def get(path: str, handle: Handler, *, for_bound_keys: bool = False) -> Page:
    """Return a page at a path below /console."""
    return Page(method="GET", path=ROOT + path, handle=handle, for_bound_keys=for_bound_keys)


def post(
    path: str, handle: Handler, *, for_bound_keys: bool = False, viewers_may: bool = False
) -> Page:
    """Return an act at a path below /console. Its form is checked before it is handled."""
    return Page(
        method="POST",
        path=ROOT + path,
        handle=handle,
        for_bound_keys=for_bound_keys,
        viewers_may=viewers_may,
    )
