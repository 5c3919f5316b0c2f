"""Logs and counts processed events after their commit."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import structlog

from shared import metrics, tracing
from shared.events.model import ProcessedEvent
from shared.inbox.model import ClaimedEvent, EventState

log = structlog.get_logger()

# An ignored event is no news: most Stripe accounts send many that have nothing to do with credits.
_LEVELS = {EventState.APPLIED: logging.INFO, EventState.IGNORED: logging.DEBUG}


def report(
    events: Sequence[ClaimedEvent], processed_events: Sequence[ProcessedEvent], now: datetime
) -> None:
    """Log and count committed outcomes; `request_id` correlates with the delivery's line."""
    for event, processed in zip(events, processed_events, strict=True):
        state = processed.outcome.state
        if state is EventState.APPLIED:
            seconds = (now - event.received_at).total_seconds()
            metrics.EVENT_TO_LEDGER_SECONDS.observe(seconds)
        event_name = f"events.{state}"
        tracing.record(
            event_name,
            {"event.id": event.id, "event.type": event.type, "event.attempts": event.attempts},
            about=event.id,
        )
        log.log(
            _LEVELS.get(state, logging.WARNING),
            event_name,
            event_id=event.id,
            type=event.type,
            request_id=event.request_id,
            attempts=event.attempts,
            **_details(processed),
        )


def _details(processed: ProcessedEvent) -> dict[str, Any]:
    outcome, result = processed.outcome, processed.result
    if result is not None:
        return {
            "organization_id": str(result.organization_id),
            "transaction_id": str(result.id),
            "posting": str(result.status),
        }
    if outcome.reason is not None:
        return {"reason": outcome.reason, "error_class": outcome.error_class}
    return {}
