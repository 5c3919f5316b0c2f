"""The audit log: who did what, to what, and why."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from aiohttp import web

from console.framework import paging
from console.framework.context import Visit
from console.framework.page import get
from shared.access import service as access
from shared.errors import InvalidRequestError
from shared.organizations import service as organizations

if TYPE_CHECKING:
    from shared.db.pool import Connection

PATH = "/console/audit"


async def show(visit: Visit) -> web.Response:
    """List entries, newest first; a bound session sees those of its organization."""
    after = paging.decode(visit.query, datetime, UUID)
    since = day(visit.query, "since")
    async with visit.reading() as connection:
        rows = await access.audit_entries(
            connection,
            organization_id=await _organization(connection, visit),
            actor=visit.query.get("actor", "").strip() or None,
            since=since,
            after=after and (after[0], after[1]),
            limit=paging.ROWS_MAX + 1,
        )
    page = paging.rows(
        rows, path=PATH, query=visit.query, position=lambda row: (row["at"], row["id"])
    )
    return visit.render("audit.html", title="Audit log", page=page, query=visit.query)


async def _organization(connection: Connection, visit: Visit) -> UUID | None:
    """Return the organization to filter by; raise NotFoundError where there is none."""
    reference = visit.query.get("organization", "").strip()
    if visit.organization_id is not None or not reference:
        return visit.organization_id
    return (await organizations.find(connection, reference)).id


def day(query: Mapping[str, str], name: str) -> datetime | None:
    """Return the beginning of a day of the query, in UTC; raise InvalidRequestError for others."""
    text = query.get(name, "").strip()
    if not text:
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise InvalidRequestError(f"{name}: give a day such as 2026-11-28.") from None


PAGES = (get("/audit", show, for_bound_keys=True),)
