"""Attempts whose customers must authenticate: since when, until when, and the link to send."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from aiohttp import web

from console.framework import paging
from console.framework.context import Visit
from console.framework.page import get, post
from shared.db.queries import beside
from shared.recharge import recovery, service

if TYPE_CHECKING:
    import asyncpg

QUERIES = beside(__file__, "attempts.sql")
LIST = "/console/requires-action"


async def show(visit: Visit) -> web.Response:
    """List the waiting attempts, the soonest deadline first."""
    after = paging.decode(visit.query, datetime, UUID)
    async with visit.reading() as connection:
        rows: list[asyncpg.Record] = await connection.fetch(
            QUERIES.waiting, visit.organization_id, *(after or (None, None)), paging.ROWS_MAX + 1
        )
    page = paging.rows(
        rows, path=LIST, query=visit.query, position=lambda row: (row["due_at"], row["id"])
    )
    return visit.render("requires_action.html", title="Needs authentication", page=page)


async def link(visit: Visit) -> web.Response:
    """Make a new link to the page of an organization's waiting attempt; it is shown once."""
    organization_id = visit.path_id("organization")
    visit.check_organization(organization_id)
    reason, token = visit.reason(), recovery.new_link()
    async with visit.transaction() as connection:
        expires_at = await service.fresh_link(
            connection, organization_id, token, actor=visit.actor, reason=reason
        )
    address = f"{visit.console.settings.public_url}/pay/{token}"
    return visit.redirect(
        LIST, f"Send this link to the customer: {address} until {expires_at:%Y-%m-%d %H:%M} UTC."
    )


PAGES = (
    get("/requires-action", show, for_bound_keys=True),
    post("/requires-action/{organization}/link", link, for_bound_keys=True),
)
