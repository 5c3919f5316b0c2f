"""The URLs of the customer's app that receive messages: list and remove."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from console.framework.context import Visit
from console.framework.page import get, post
from shared.access import service as audit
from shared.db.queries import beside
from shared.outbound import service

if TYPE_CHECKING:
    import asyncpg

QUERIES = beside(__file__, "messages.sql")
LIST = "/console/endpoints"
ENDPOINTS_MAX = 200
COUNTED_MAX = 1_000


async def show(visit: Visit) -> web.Response:
    """List endpoints without their secrets, disabled ones included."""
    async with visit.reading() as connection:
        rows: list[asyncpg.Record] = await connection.fetch(
            QUERIES.endpoints, COUNTED_MAX, ENDPOINTS_MAX
        )
    return visit.render(
        "endpoints.html", title="Endpoints", endpoints=rows, counted_max=COUNTED_MAX
    )


async def remove(visit: Visit) -> web.Response:
    """Disable an endpoint and discard its pending messages."""
    endpoint_id, reason = visit.path_id("endpoint"), visit.reason()
    async with visit.transaction() as connection:
        discarded = await service.remove_endpoint(connection, endpoint_id)
        await audit.record(
            connection,
            actor=visit.actor,
            action="endpoints.remove",
            subject=str(endpoint_id),
            reason=reason,
            details={"discarded": discarded},
        )
    return visit.redirect(LIST, f"Removed; {discarded} pending messages are discarded.")


PAGES = (
    get("/endpoints", show),
    post("/endpoints/{endpoint}/remove", remove),
)
