"""GET /docs: Swagger UI with the document at /openapi.json.

The wheel `offapi` ships Swagger UI's released files. They are located without importing the
package, since its import builds 9 MB of pages in memory.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

PATH = "/docs"
ASSET_SECONDS_MAX = 24 * 60 * 60

# Swagger UI may load only what this process serves, and data: icons of its style sheet. It sets
# inline styles by script, property by property, which needs no 'unsafe-inline'. Framing is denied,
# since users type an API key here.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": _POLICY,
    "Content-Type": "text/html; charset=utf-8",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_SCRIPT = "text/javascript; charset=utf-8"
_STYLE = "text/css; charset=utf-8"


def routes() -> list[web.RouteDef]:
    """Return the routes of the page and of its assets; no other file is reachable."""
    folder = Path(__file__).parent
    swagger_ui = Path(str(metadata.distribution("offapi").locate_file("offapi")))
    return [
        web.get(PATH, _file(folder / "page.html", _PAGE_HEADERS)),
        _asset("page.js", folder / "page.js", _SCRIPT),
        _asset("swagger-ui-bundle.js", swagger_ui / "swagger_bundle.js", _SCRIPT),
        _asset("swagger-ui.css", swagger_ui / "swagger_style.css", _STYLE),
    ]


def _asset(name: str, file: Path, content_type: str) -> web.RouteDef:
    headers = {
        "Cache-Control": f"public, max-age={ASSET_SECONDS_MAX}",
        "Content-Type": content_type,
        "X-Content-Type-Options": "nosniff",
    }
    return web.get(f"{PATH}/{name}", _file(file, headers))


def _file(file: Path, headers: dict[str, str]) -> Handler:
    async def serve(_request: web.Request) -> web.StreamResponse:
        return web.FileResponse(file, headers=headers)

    return serve
