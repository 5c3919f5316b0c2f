"""Takes the samples of a minute, in one transaction."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from shared.inbox import store as inbox
from shared.inbox.model import EventState
from shared.samples import rules, store
from shared.samples.model import Sample, Series

if TYPE_CHECKING:
    from shared.db.pool import Connection


async def sample(connection: Connection) -> list[Sample]:
    """Sample the minute that ended last, in the caller's transaction; return what was stored.

    Nothing where it has been sampled, or another worker is sampling it.
    """
    minute = await store.begin(connection)
    if minute is None:
        return []
    backlog = await inbox.backlog(connection)
    nothing = (0, 0.0)
    open_events = sum(
        backlog.get(state, nothing)[0] for state in (EventState.RECEIVED, EventState.RETRYING)
    )
    received = await store.events_received(connection, minute.ends_at)
    samples = [
        Sample(Series.EVENTS_RECEIVED, Decimal(received)),
        Sample(Series.BACKLOG, Decimal(open_events)),
        Sample(Series.DEAD, Decimal(backlog.get(EventState.DEAD, nothing)[0])),
        *await store.event_to_ledger(connection, minute.ends_at),
        *await store.recharge_outcomes(connection, minute.ends_at),
    ]
    if rules.sums_balances(minute.ends_at, minute.accounts):
        total = await store.credits_outstanding(connection)
        samples.append(Sample(Series.CREDITS_OUTSTANDING, total))
    await store.save(connection, minute.ends_at, samples)
    return samples
