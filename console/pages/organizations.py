"""Organizations: the list, and the search by name, slug, email, id or Stripe customer."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from aiohttp import web

from console.framework import paging
from console.framework.context import Visit
from console.framework.page import get
from shared.db.queries import beside
from shared.ids import parse_id
from shared.recharge.model import RechargeState

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__, "organizations.sql")
LIST = "/console/organizations"
# A search looks through so many organizations a page. Names and emails have no index.
SEARCHED_MAX = 20_000
TEXT_LENGTH_MAX = 200
BEYOND = UUID(int=(1 << 128) - 1)


async def show(visit: Visit) -> web.Response:
    """List organizations, newest first; a bound session goes to its own."""
    if visit.organization_id is not None:
        return web.Response(status=303, headers={"Location": f"{LIST}/{visit.organization_id}"})
    text = visit.query.get("q", "").strip()[:TEXT_LENGTH_MAX]
    state = visit.query.get("state", "")
    position = paging.decode(visit.query, UUID)
    async with visit.reading() as connection:
        if text and position is None and (exact := await _exact(connection, text)) is not None:
            return web.Response(status=303, headers={"Location": f"{LIST}/{exact}"})
        page, searched = await _page(visit, connection, text, state, position)
    return visit.render(
        "organizations.html",
        title="Organizations",
        page=page,
        text=text,
        state=state,
        states=[str(known) for known in RechargeState],
        searched=searched,
    )


async def _exact(connection: Connection, text: str) -> UUID | None:
    """Return the organization that a text names exactly."""
    found: UUID | None = await connection.fetchval(QUERIES.exactly, parse_id(text), text)
    return found


async def _page(
    visit: Visit,
    connection: Connection,
    text: str,
    state: str,
    position: tuple[UUID] | None,
) -> tuple[paging.Rows[asyncpg.Record], int | None]:
    """Return a page, and how many organizations were searched where more remain."""
    before = position[0] if position else BEYOND
    is_search = bool(text or state)
    found = await connection.fetch(
        QUERIES.listed,
        before,
        f"%{escape_pattern(text)}%" if text else None,
        state or None,
        SEARCHED_MAX if is_search else paging.ROWS_MAX + 1,
        paging.ROWS_MAX + 1,
    )
    page = paging.rows(found, path=LIST, query=visit.query, position=lambda row: [row["id"]])
    if page.next is not None or not is_search:
        return page, None
    last = await connection.fetchval(QUERIES.last_searched, before, SEARCHED_MAX)
    if last is None:
        return page, None
    return paging.continued(page, path=LIST, query=visit.query, position=[last]), SEARCHED_MAX


def escape_pattern(text: str) -> str:
    """Return a text for LIKE that matches itself alone."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


PAGES = (get("/organizations", show, for_bound_keys=True),)
