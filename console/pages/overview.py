"""GET /console: the state of the installation, over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from aiohttp import web

from console.framework import charts
from console.framework.charts import Chart, Shape
from console.framework.context import Visit
from console.framework.page import get
from shared.heartbeats import store as heartbeats
from shared.invariants import store as invariants
from shared.outbound import store as outbound
from shared.outbound.model import MessageState
from shared.reconciliation import store as reconciliation
from shared.replay import dead_letters
from shared.samples import store as samples
from shared.samples.model import Series

if TYPE_CHECKING:
    from shared.db.pool import Connection

PERIODS: Mapping[str, tuple[str, timedelta]] = {
    "hour": ("last hour", timedelta(hours=1)),
    "day": ("last day", timedelta(days=1)),
    "week": ("last week", timedelta(days=7)),
    "fortnight": ("last 14 days", timedelta(days=14)),
}
PERIOD_DEFAULT = "day"
POINTS_MAX = 120
POINTS_OF_BARS_MAX = 60


async def show(visit: Visit) -> web.Response:
    """Show the overview; a bound session goes to its organization."""
    if visit.organization_id is not None:
        return web.Response(
            status=303, headers={"Location": f"/console/organizations/{visit.organization_id}"}
        )
    period = visit.query.get("period", PERIOD_DEFAULT)
    if period not in PERIODS:
        period = PERIOD_DEFAULT
    async with visit.reading() as connection:
        drawn = await _charts(connection, visit.now - PERIODS[period][1], visit.now)
        causes = await dead_letters.causes(connection)
        results = await invariants.results(connection)
        workers = await heartbeats.health(connection)
        messages = await outbound.backlog(connection)
        drift = await reconciliation.drift(connection)
        last = await reconciliation.last_finished(connection)
    return visit.render(
        "overview.html",
        title="Overview",
        charts=drawn,
        causes=causes,
        invariants=results,
        workers=workers,
        dead_messages=messages.get(MessageState.DEAD, 0),
        counted_max=outbound.BACKLOG_ROWS_MAX,
        drift=sorted(drift.items()),
        reconciled=None if last is None else timedelta(seconds=last["age_seconds"]),
        not_compared=0 if last is None else last["problems"],
        period=period,
        periods=[(name, label) for name, (label, _) in PERIODS.items()],
    )


async def _charts(connection: Connection, since: datetime, until: datetime) -> list[Chart]:
    async def series(
        which: Series, name: str, points_max: int = POINTS_MAX
    ) -> Sequence[charts.Series]:
        found = await samples.points(connection, which, since, until, points_max=points_max)
        return [
            charts.Series(label or name, [(point.at, point.value) for point in points])
            for label, points in groupby(found, key=lambda point: point.label)
        ]

    latency = [
        *await series(Series.EVENT_TO_LEDGER_P50_SECONDS, "median"),
        *await series(Series.EVENT_TO_LEDGER_P99_SECONDS, "99th percentile"),
    ]
    received = await series(Series.EVENTS_RECEIVED, "events", POINTS_OF_BARS_MAX)
    draw = partial(charts.chart, period=charts.Period(since, until, POINTS_OF_BARS_MAX))
    return [
        draw("Events received", received, shape=Shape.BARS),
        draw("From event to ledger", latency, unit="seconds"),
        draw("Backlog", await series(Series.BACKLOG, "events"), unit="events"),
        draw("Dead letters", await series(Series.DEAD, "events"), unit="events"),
        draw("Recharge outcomes", await series(Series.RECHARGE_OUTCOMES, "attempts")),
        draw(
            "Credits outstanding",
            await series(Series.CREDITS_OUTSTANDING, "credits"),
            shape=Shape.STEPS,
            unit="credits",
        ),
    ]


PAGES = (get("", show, for_bound_keys=True),)
