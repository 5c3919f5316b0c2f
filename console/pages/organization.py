"""An organization: balance, balance over time, and its grants in burn order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from aiohttp import web

from console.framework import formatting
from console.framework.charts import Chart, Series, Shape, chart
from console.framework.context import Visit
from console.framework.page import get
from shared.db.queries import beside
from shared.errors import NotFoundError
from shared.ledger import store as ledger
from shared.ledger.model import Balance
from shared.organizations import service as organizations
from shared.organizations.model import Organization
from shared.recharge import rules as recharge_rules
from shared.recharge import store as recharge

if TYPE_CHECKING:
    from shared.db.pool import Connection

QUERIES = beside(__file__, "organization.sql")
LIST = "/console/organizations"
MISSING = "There is no such organization."
POINTS_MAX = 200
BURN_ORDER_MAX = 30
BAR_WIDTH = 200
# (value, label, period); None: since its first row.
PERIODS: Sequence[tuple[str, str, timedelta | None]] = (
    ("all", "since the first transaction", None),
    ("90d", "90 days", timedelta(days=90)),
    ("7d", "7 days", timedelta(days=7)),
    ("24h", "24 hours", timedelta(hours=24)),
)
TABS = (
    ("", "Balance"),
    ("/history", "History"),
    ("/statement", "Statement"),
    ("/grants", "Grants"),
    ("/holds", "Holds"),
    ("/budgets", "Budgets"),
    ("/recharge", "Auto-recharge"),
    ("/messages", "Messages"),
    ("/audit", "Audit log"),
)


@dataclass(frozen=True, slots=True)
class BurnBar:
    """A grant as a bar: its length is the original amount, the filled part is what is left."""

    grant: Mapping[str, Any]
    place: int | None
    width: float
    left: float

    @property
    def burned(self) -> Decimal:
        """The credits that the grant has paid for, or that an expiration or a void took."""
        burned: Decimal = self.grant["original"] - self.grant["remaining"]
        return burned


async def find(visit: Visit, connection: Connection) -> Organization:
    """Return the organization of the path, by id or slug.

    A bound session gets the same NotFoundError for another one as for one that does not exist.
    """
    try:
        found = await organizations.find(connection, visit.path["organization"])
    except NotFoundError:
        raise NotFoundError(MISSING) from None
    if visit.organization_id not in {None, found.id}:
        raise NotFoundError(MISSING)
    return found


def render(
    visit: Visit,
    template: str,
    organization: Organization,
    *,
    title: str | None = None,
    **values: Any,
) -> web.Response:
    """Return a page of an organization, with links to the others."""
    path = f"{LIST}/{organization.id}"
    above = [] if visit.organization_id else [("Organizations", LIST)]
    if title is not None:
        above.append((formatting.shortened(organization.name, 60), path))
    return visit.render(
        template,
        title=title or organization.name,
        breadcrumbs=above,
        organization=organization,
        path=path,
        tabs=[(path + end, label, label == (title or TABS[0][1])) for end, label in TABS],
        **values,
    )


async def show(visit: Visit) -> web.Response:
    """Show the balance, its course, and what burns next."""
    period = visit.query.get("period", PERIODS[0][0])
    async with visit.reading() as connection:
        organization = await find(visit, connection)
        balance = await ledger.balance(connection, organization.id)
        account = await connection.fetchrow(QUERIES.account, organization.id)
        auto = await auto_recharge(connection, organization.id, visit.now)
        burning = await connection.fetch(
            QUERIES.burn_order, organization.id, visit.now, BURN_ORDER_MAX
        )
        course = await balance_chart(connection, organization.id, balance, period, visit.now)
    return render(
        visit,
        "organization.html",
        organization,
        balance=balance,
        account=account,
        auto=auto,
        course=course,
        period=period,
        periods=[(value, label) for value, label, _ in PERIODS],
        bars=burn_bars([dict(grant) for grant in burning], is_order=True),
        burn_order_max=BURN_ORDER_MAX,
        form_key=visit.console.make_id(),
    )


async def auto_recharge(
    connection: Connection, organization_id: UUID, now: datetime
) -> dict[str, Any] | None:
    """Return the rule, the state and this month's charges; None: never configured."""
    rows = await recharge.overview(
        connection,
        organization_id=organization_id,
        state=None,
        month_start=recharge_rules.month_start(now),
        rows_max=1,
    )
    return rows[0] if rows else None


async def balance_chart(
    connection: Connection,
    organization_id: UUID,
    balance: Balance | None,
    period: str,
    now: datetime,
) -> Chart:
    """Return the course of a balance, from at most 200 rows of the ledger."""
    length = next((length for value, _, length in PERIODS if value == period), None)
    first = 1
    if length is not None:
        before = await connection.fetchval(QUERIES.seq_before, organization_id, now - length)
        first = max(int(before), 1)
    rows = await connection.fetch(QUERIES.balance_points, organization_id, first, POINTS_MAX)
    points = [(max(row["created_at"], _start(length, now)), row["balance_after"]) for row in rows]
    if balance is not None and points:
        points.append((now, balance.balance))
    return chart(
        "Balance over time", [Series("Balance", points)], shape=Shape.STEPS, unit="credits"
    )


def _start(length: timedelta | None, now: datetime) -> datetime:
    """Return where the chart begins: the row before a period gives the balance at its start."""
    return now - length if length is not None else datetime.min.replace(tzinfo=now.tzinfo)


def burn_bars(grants: Sequence[Mapping[str, Any]], *, is_order: bool) -> list[BurnBar]:
    """Return the bars of grants, the longest for the largest of them."""
    largest = max((grant["original"] for grant in grants), default=Decimal(1))
    return [
        BurnBar(
            grant,
            place if is_order else None,
            width=round(max(float(grant["original"] / largest) * BAR_WIDTH, 2.0), 1),
            left=round(float(grant["remaining"] / largest) * BAR_WIDTH, 1),
        )
        for place, grant in enumerate(grants, start=1)
    ]


PAGES = (get("/organizations/{organization}", show, for_bound_keys=True),)
