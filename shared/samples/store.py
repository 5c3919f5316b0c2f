"""Reads what is sampled, stores it, and returns it as the points of a chart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from shared.db.queries import beside
from shared.samples import rules
from shared.samples.model import Point, Sample, Series

if TYPE_CHECKING:
    from shared.db.pool import Connection

QUERIES = beside(__file__)

POINTS_MAX = 200
# A delivery or an effect that was stamped within the minute commits within this time after it.
COMMIT_SECONDS = 5.0
_MICROSECONDS = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Minute:
    """The minute to sample, by its end, and how many accounts PostgreSQL estimates."""

    ends_at: datetime
    accounts: float


async def begin(connection: Connection) -> Minute | None:
    """Take the minute that ended last, until the end of the caller's transaction.

    None where it has been sampled, or another worker is sampling it.
    """
    row = await connection.fetchrow(QUERIES.begin, timedelta(seconds=COMMIT_SECONDS))
    return None if row is None else Minute(**row)


async def events_received(connection: Connection, ends_at: datetime) -> int:
    """Return how many events arrived in the minute."""
    count: int = await connection.fetchval(QUERIES.events_received, ends_at)
    return count


async def event_to_ledger(connection: Connection, ends_at: datetime) -> list[Sample]:
    """Return the percentiles of the events that were applied in the minute; none without any."""
    row = await connection.fetchrow(QUERIES.event_to_ledger, ends_at)
    if row is None or row["p50_seconds"] is None:
        return []
    return [
        Sample(series, Decimal(seconds).quantize(_MICROSECONDS))
        for series, seconds in (
            (Series.EVENT_TO_LEDGER_P50_SECONDS, row["p50_seconds"]),
            (Series.EVENT_TO_LEDGER_P99_SECONDS, row["p99_seconds"]),
        )
    ]


async def recharge_outcomes(connection: Connection, ends_at: datetime) -> list[Sample]:
    """Return how many attempts ended in the minute, a sample for each outcome."""
    rows = await connection.fetch(QUERIES.recharge_outcomes, ends_at)
    return [
        Sample(Series.RECHARGE_OUTCOMES, Decimal(row["attempts"]), row["outcome"]) for row in rows
    ]


async def credits_outstanding(connection: Connection) -> Decimal:
    """Return the sum of all balances. Reads every account."""
    total: Decimal = await connection.fetchval(QUERIES.credits_outstanding)
    return total


async def save(connection: Connection, ends_at: datetime, samples: Sequence[Sample]) -> None:
    """Store the samples of a minute."""
    await connection.execute(
        QUERIES.save,
        ends_at,
        [sample.series for sample in samples],
        [sample.label for sample in samples],
        [sample.value for sample in samples],
    )


async def points(
    connection: Connection,
    series: Series,
    since: datetime,
    until: datetime,
    *,
    points_max: int = POINTS_MAX,
) -> list[Point]:
    """Return at most `points_max` points for each label, in the order of label and time.

    Minutes without a sample have no point: no worker ran then, or nothing was applied.
    """
    step = rules.step(since, until, points_max=points_max)
    rows = await connection.fetch(QUERIES.points, series, since, until, step, series.combine)
    return [Point(**row) for row in rows]


async def purge(connection: Connection, retention: timedelta, *, rows_max: int) -> int:
    """Delete samples that are older than the retention, oldest first; return how many."""
    count: int = await connection.fetchval(QUERIES.purge, retention, rows_max)
    return count
