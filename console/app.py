"""The console as routes of an aiohttp application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web

from console import sign_in
from console.framework import edge, navigation, rendering
from console.framework.connections import ConnectionShare
from console.framework.context import Console, Visit
from console.framework.page import ROOT, Page, get
from console.framework.signing import Signer
from console.pages import PAGES
from shared.config import Settings
from shared.errors import NotFoundError
from shared.payments.gateway import stripe_gateway

if TYPE_CHECKING:
    from shared.db.pool import Pool

STYLE_SECONDS_MAX = 86_400


@asynccontextmanager
async def open_console(
    settings: Settings, pool: Pool, pages: Sequence[Page] = PAGES
) -> AsyncIterator[Console]:
    """Yield the console's resources."""
    shown = [page for page in pages if page.method == "GET"]
    async with stripe_gateway(settings.stripe_api_key, settings.stripe_api_base) as stripe:
        yield Console(
            settings=settings,
            pool=ConnectionShare(pool),
            stripe=stripe,
            # The one secret that all processes of an installation have and that never leaves them.
            signer=Signer(settings.stripe_api_key),
            navigation=navigation.groups({page.path for page in shown}),
            bound_navigation=navigation.groups(
                {page.path for page in shown if page.for_bound_keys}
            ),
        )


def routes(console: Console, pages: Sequence[Page] = PAGES) -> list[web.RouteDef]:
    """Return the routes of the sign-in, the pages and the style sheet; all others are 404 pages."""
    nothing = get("/{tail:.*}", _nothing, for_bound_keys=True)
    return [
        *sign_in.SignIn(console).routes(),
        *(
            web.route(page.method, page.path, edge.handler(console, page))
            for page in (*pages, sign_in.SIGN_OUT)
        ),
        web.get(rendering.STYLE_PATH, _style),
        web.get(rendering.ICON_PATH, _icon),
        web.get(f"{ROOT}/", _to_overview),
        web.get(nothing.path, edge.handler(console, nothing)),
    ]


async def _nothing(_visit: Visit) -> web.Response:
    raise NotFoundError("There is no such page.")


async def _to_overview(_request: web.Request) -> web.Response:
    return web.Response(status=308, headers={"Location": ROOT})


async def _icon(_request: web.Request) -> web.Response:
    """Return the icon of the browser's tab."""
    return web.Response(
        body=rendering.icon(),
        content_type="image/svg+xml",
        headers={"Cache-Control": f"public, max-age={STYLE_SECONDS_MAX}"},
    )


async def _style(_request: web.Request) -> web.Response:
    """Return the style sheet; its address changes with its text."""
    text, digest = rendering.style()
    return web.Response(
        body=text,
        content_type="text/css",
        charset="utf-8",
        headers={"Cache-Control": f"public, max-age={STYLE_SECONDS_MAX}", "ETag": f'"{digest}"'},
    )
