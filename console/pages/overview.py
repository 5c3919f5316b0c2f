"""GET /console: the state of the installation, over time."""

from __future__ import annotations

from aiohttp import web

from console.framework.context import Visit
from console.framework.page import get


async def show(visit: Visit) -> web.Response:
    """Show the overview; a bound session goes to its organization."""
    if visit.organization_id is not None:
        return web.Response(
            status=303, headers={"Location": f"/console/organizations/{visit.organization_id}"}
        )
    return visit.render("overview.html", title="Overview")


PAGES = (get("", show, for_bound_keys=True),)
