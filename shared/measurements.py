"""The measurements of the database that every process exports in its metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from shared.heartbeats import store as heartbeats
from shared.inbox.service import measure_backlog as measure_inbox
from shared.invariants import store as invariants
from shared.outbound.service import measure_backlog as measure_messages
from shared.recharge import alerts
from shared.reconciliation.service import measure as measure_drift

if TYPE_CHECKING:
    from shared.db.pool import Pool


def measurements(pool: Pool) -> Sequence[Callable[[], Awaitable[None]]]:
    """Return all of them: they concern the whole installation and are the same in each process."""
    return [
        partial(measure, pool)
        for measure in (
            measure_inbox,
            measure_messages,
            alerts.measure,
            heartbeats.measure,
            invariants.measure,
            measure_drift,
        )
    ]
