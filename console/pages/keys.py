"""API keys: list and revoke."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from aiohttp import web

from console.framework import paging
from console.framework.context import Visit
from console.framework.page import get, post
from shared.access import service as access
from shared.access.model import scopes_text

if TYPE_CHECKING:
    import asyncpg

LIST = "/console/keys"


async def show(visit: Visit) -> web.Response:
    """List the keys, newest first, without their secrets; a bound session has no such page."""
    after = paging.decode(visit.query, UUID)
    async with visit.reading() as connection:
        found = await access.list_keys(
            connection, before=after[0] if after else None, limit=paging.ROWS_MAX + 1
        )
    keys = [
        {**row, "scopes": scopes_text(access.scopes_of(row)), "state": _state(visit, row)}
        for row in found
    ]
    page = paging.rows(keys, path=LIST, query=visit.query, position=lambda key: (key["id"],))
    return visit.render("keys.html", title="API keys", page=page)


def _state(visit: Visit, row: asyncpg.Record) -> str:
    if row["revoked_at"] is not None:
        return "revoked"
    if row["expires_at"] is not None and row["expires_at"] <= visit.now:
        return "expired"
    return "valid" if row["replaced_by"] is None else "rotated"


async def revoke(visit: Visit) -> web.Response:
    """Revoke a key, with the sessions that it opened."""
    key_id, reason = visit.path_id("key"), visit.reason()
    async with visit.transaction() as connection:
        await access.revoke_key(connection, key_id)
        await access.record(
            connection,
            actor=visit.actor,
            action="keys.revoke",
            subject=str(key_id),
            reason=reason,
        )
    return visit.redirect(LIST, f"Key {key_id} is revoked.")


PAGES = (
    get("/keys", show),
    post("/keys/{key}/revoke", revoke),
)
