"""The budgets of an organization, with what is used, held and left of each."""

from __future__ import annotations

from uuid import UUID

from aiohttp import web

from console.framework import paging
from console.framework.context import Visit
from console.framework.page import get
from console.pages import organization as overview
from shared.budgets import service


async def budgets(visit: Visit) -> web.Response:
    """List the budgets, newest first, and the thresholds of the balance."""
    position = paging.decode(visit.query, UUID)
    async with visit.reading() as connection:
        found = await overview.find(visit, connection)
        alerts = await service.alerts(connection, found.id)
        states = await service.page(
            connection,
            found.id,
            before=position[0] if position else None,
            limit=paging.ROWS_MAX + 1,
        )
    page = paging.rows(
        states,
        path=f"{overview.LIST}/{found.id}/budgets",
        query=visit.query,
        position=lambda state: [state.budget.id],
    )
    return overview.render(
        visit, "organization_budgets.html", found, title="Budgets", page=page, alerts=alerts
    )


PAGES = (get("/organizations/{organization}/budgets", budgets, for_bound_keys=True),)
