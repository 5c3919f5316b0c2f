"""Says what became of events, after the commit: one log line an event, and the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import structlog

from shared import metrics
from shared.events.model import Outcome
from shared.inbox.model import ClaimedEvent, EventState

log = structlog.get_logger()


def report(events: Sequence[ClaimedEvent], outcomes: Sequence[Outcome], *, now: datetime) -> None:
    """Log and count outcomes that are committed. `request_id` joins the line to the delivery's."""
    for event, outcome in zip(events, outcomes, strict=True):
        state = outcome.settlement.state
        if state is EventState.APPLIED:
            seconds = (now - event.received_at).total_seconds()
            metrics.EVENT_TO_LEDGER_SECONDS.observe(seconds)
        write = log.info if state in (EventState.APPLIED, EventState.IGNORED) else log.warning
        write(
            f"events.{state}",
            event_id=event.id,
            type=event.type,
            request_id=event.request_id,
            attempts=event.attempts,
            **_details(outcome),
        )


def _details(outcome: Outcome) -> dict[str, Any]:
    settlement, result = outcome.settlement, outcome.result
    if result is not None:
        return {
            "organization_id": str(result.organization_id),
            "transaction_id": str(result.id),
            "posting": str(result.status),
        }
    if settlement.reason is not None:
        return {"reason": settlement.reason, "error_class": settlement.error_class}
    return {}
