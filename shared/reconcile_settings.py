"""The settings of scheduled reconciliation, and how each is read from its variable."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from shared.durations import Duration

INTERVAL_MIN = timedelta(minutes=1)
RATE_MAX = 90  # below Stripe's 100 reads a second: https://docs.stripe.com/rate-limits


class ReconcileRepair(StrEnum):
    """What a scheduled reconciliation repairs: nothing, missing events, or all that it can."""

    NOTHING = "nothing"
    EVENTS = "events"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileSettings:
    """How often Stripe is compared with the ledger, over which time, and at which rate.

    `every` is None: only on request. `rate` is in requests a second.
    """

    every: timedelta | None = None
    window: timedelta = timedelta(hours=6)
    repair: ReconcileRepair = ReconcileRepair.EVENTS
    rate: int = 20


def interval(text: str) -> timedelta | None:
    """Set it to an ISO 8601 duration of a minute or more, such as PT1H, or to never."""
    return None if text.lower() == "never" else window(text)


def window(text: str) -> timedelta:
    """Set it to an ISO 8601 duration of a minute or more without months, such as PT6H."""
    duration = Duration.parse(text)
    if duration.months or duration.time < INTERVAL_MIN:
        raise ValueError
    return duration.time


def repair(text: str) -> ReconcileRepair:
    """Set it to nothing, events or all."""
    return ReconcileRepair(text)


def rate(text: str) -> int:
    """Set it to a whole number of requests a second, from 1 to 90."""
    number = int(text)
    if not 1 <= number <= RATE_MAX:
        raise ValueError
    return number
