"""The outcome of an event: of its result, or of the error that it failed with. Pure."""

from __future__ import annotations

import traceback

from shared.errors import EventError
from shared.events.effects import EventResult
from shared.events.model import Applied, Ignored, ProcessedEvent
from shared.inbox import rules as inbox_rules
from shared.inbox.model import ClaimedEvent, EventOutcome, EventState
from shared.ledger.model import PostedTransaction


def processed(event: ClaimedEvent, result: EventResult, *, random: float) -> ProcessedEvent:
    """Return the outcome of an event that was applied; `random` is a number from 0 to 1."""
    match result:
        case EventError():
            return failed(event, result, random=random)
        case Ignored(reason, waits_for):
            return ProcessedEvent(
                EventOutcome(event.key, EventState.IGNORED, reason=reason, waits_for=waits_for)
            )
        case PostedTransaction() | Applied():
            organization_id = result.organization_id
            outcome = EventOutcome(event.key, EventState.APPLIED, organization_id=organization_id)
            posting = result if isinstance(result, PostedTransaction) else None
            return ProcessedEvent(outcome, posting)
        case _:
            return ProcessedEvent(EventOutcome(event.key, EventState.APPLIED))


def failed(event: ClaimedEvent, error: Exception, *, random: float) -> ProcessedEvent:
    """Return the outcome of an event that failed, with the error's traceback."""
    trace = "".join(traceback.format_exception(error))
    return ProcessedEvent(inbox_rules.after_failure(event, error, trace, random=random))
