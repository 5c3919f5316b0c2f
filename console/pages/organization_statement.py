"""The statement of an organization for a month."""

from __future__ import annotations

from aiohttp import web

from console.framework.context import Visit
from console.framework.page import get
from console.pages import organization as overview
from shared.errors import InvalidRequestError
from shared.months import Month
from shared.statements import rules, service
from shared.statements.model import Line


async def statement(visit: Visit) -> web.Response:
    """Show opening, each reason for a change, and closing; by default of this month, until now."""
    month = _month(visit)
    async with visit.reading() as connection:
        found = await overview.find(visit, connection)
        made = await service.statement(connection, found.id, month, now=visit.now)
    return overview.render(
        visit,
        "organization_statement.html",
        found,
        title="Statement",
        month=month,
        statement=made,
        lines=[
            ("opening", made.opening.balance),
            *((line, made.lines[line].amount) for line in Line),
            ("closing", made.closing.balance),
        ],
        closing_hash=rules.hash_text(made.closing),
        no_category=rules.NO_CATEGORY,
        rest=rules.REST,
    )


def _month(visit: Visit) -> Month:
    """Read the query; raise InvalidRequestError for what is no month, or has not begun."""
    text = visit.query.get("month", "")
    if not text:
        return Month.of(visit.now)
    try:
        month = Month.parse(text)
    except ValueError as error:
        raise InvalidRequestError(f"The month {error}.") from None
    if month.start > visit.now:
        raise InvalidRequestError("This month has not begun.")
    return month


PAGES = (get("/organizations/{organization}/statement", statement, for_bound_keys=True),)
