"""The audit log: who did what, to what, and why."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from aiohttp import web

from console.framework import filtering, paging
from console.framework.context import Visit
from console.framework.page import get
from shared.access import service as access

PATH = "/console/audit"


async def show(visit: Visit) -> web.Response:
    """List entries, newest first; a bound session sees those of its organization."""
    after = paging.decode(visit.query, datetime, UUID)
    since = filtering.day(visit.query, "since")
    async with visit.reading() as connection:
        rows = await access.audit_entries(
            connection,
            organization_id=visit.organization_id
            or await filtering.organization_id(connection, visit.query),
            actor=filtering.text(visit.query, "actor"),
            since=None if since is None else filtering.start_of(since),
            after=after and (after[0], after[1]),
            limit=paging.ROWS_MAX + 1,
        )
    page = paging.rows(
        rows, path=PATH, query=visit.query, position=lambda row: (row["at"], row["id"])
    )
    return visit.render("audit.html", title="Audit log", page=page, query=visit.query)


PAGES = (get("/audit", show, for_bound_keys=True),)
