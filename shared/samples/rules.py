"""When a costly value is sampled, and how wide the steps of a chart are. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

# Adding up the balances reads every account: a minute's worth of work is small up to here.
ACCOUNTS_EACH_MINUTE_MAX = 100_000
LARGE_SUM_MINUTES = 15
MINUTE = timedelta(minutes=1)


def sums_balances(sampled_at: datetime, accounts: float) -> bool:
    """Say whether this minute's sample adds up all balances.

    Each minute's does in an installation of up to 100,000 accounts; in a larger one, every
    fifteenth.
    """
    return accounts <= ACCOUNTS_EACH_MINUTE_MAX or sampled_at.minute % LARGE_SUM_MINUTES == 0


def step(since: datetime, until: datetime, *, points_max: int) -> timedelta:
    """Return the narrowest step, in whole minutes, that gives at most `points_max` points."""
    minutes = -(-(until - since) // (points_max * MINUTE))
    return max(minutes, 1) * MINUTE
