"""Samples: the few values that operators look at over time, one row a minute."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

SAMPLE_RETENTION = timedelta(days=14)


class Combine(StrEnum):
    """How the samples of several minutes become one value."""

    SUM = "sum"
    MAX = "max"
    LAST = "last"


class Series(StrEnum):
    """The names in `metric_samples`. A count is of one minute; the rest is measured at its end."""

    EVENTS_RECEIVED = "events_received"
    EVENT_TO_LEDGER_P50_SECONDS = "event_to_ledger_p50_seconds"
    EVENT_TO_LEDGER_P99_SECONDS = "event_to_ledger_p99_seconds"
    BACKLOG = "backlog"
    DEAD = "dead"
    RECHARGE_OUTCOMES = "recharge_outcomes"
    CREDITS_OUTSTANDING = "credits_outstanding"

    @property
    def combine(self) -> Combine:
        """How samples of this series become one point of a chart."""
        return _COMBINE[self]


_COMBINE = {
    Series.EVENTS_RECEIVED: Combine.SUM,
    Series.EVENT_TO_LEDGER_P50_SECONDS: Combine.MAX,
    Series.EVENT_TO_LEDGER_P99_SECONDS: Combine.MAX,
    Series.BACKLOG: Combine.MAX,
    Series.DEAD: Combine.MAX,
    Series.RECHARGE_OUTCOMES: Combine.SUM,
    Series.CREDITS_OUTSTANDING: Combine.LAST,
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a series, in the minute that is sampled."""

    series: Series
    value: Decimal
    label: str = ""


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a chart: the samples until `at`, combined."""

    label: str
    at: datetime
    value: Decimal
