"""Decisions of a replay: chunks, pauses, limits and counts. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby
from uuid import UUID

from shared.errors import ValidationError
from shared.events.model import ProcessedEvent
from shared.inbox.model import EventState
from shared.ledger.model import PostedTransaction, PostingStatus
from shared.replay.model import Effect, Failure, OrganizationChange, PostedRow, ReplayOptions

BATCH_ROWS_MAX = 200
# Stripe's objects are read again before the events are leased, REQUESTS_AT_ONCE_MAX at a time.
REFETCH_ROWS_MAX = 50
IDS_MAX = 10_000
RATE_MIN = 0.1
RATE_MAX = 10_000.0
FAILURES_MAX = 100
ERROR_LENGTH_MAX = 300
ORGANIZATIONS_MAX = 200
TRANSACTIONS_MAX = 500
# Of one transaction, for one organization: an event posts at most a few.
ROWS_OF_ONE_MAX = 2_000
# A running batch that has not been saved for this long has lost its process. No chunk takes longer.
HOLDER_LEASE = timedelta(minutes=5)

NOT_TRIED = "not tried: its type is paused, or it is of another mode or account"


def check_since(since: datetime | None, now: datetime) -> None:
    """Raise ValidationError for a moment in the future: nothing was received since then."""
    if since is not None and since > now:
        raise ValidationError(f"since: {since:%Y-%m-%dT%H:%M:%SZ} is in the future")


def chunk_size(options: ReplayOptions, failures: int) -> int:
    """Return how many events come next; 0 after `stop_after` failures.

    A chunk has at most as many events as failures are left, so that no replay exceeds them, and at
    most one second's worth of its rate.
    """
    limits = [REFETCH_ROWS_MAX if options.refetch else BATCH_ROWS_MAX]
    if options.stop_after is not None:
        limits.append(max(options.stop_after - failures, 0))
    if options.rate is not None:
        limits.append(max(int(options.rate), 1))
    return min(limits)


def pause_seconds(options: ReplayOptions, events: int, elapsed_seconds: float) -> float:
    """Return the pause after a chunk of so many events that took so long."""
    if options.rate is None:
        return 0.0
    return max(events / options.rate - elapsed_seconds, 0.0)


def effects(processed: Sequence[ProcessedEvent]) -> dict[str, Effect]:
    """Return what each event did.

    Two events of one payment may carry the same posting: it changed the ledger once.
    """
    counted: set[UUID] = set()
    found: dict[str, Effect] = {}
    for event in processed:
        if event.outcome.state in (EventState.DEAD, EventState.RETRYING):
            effect = Effect.FAILED
        elif (posted := _posted(event)) is not None and posted.id not in counted:
            counted.add(posted.id)
            effect = Effect.APPLIED
        else:
            effect = Effect.NOOP
        found[event.outcome.key.id] = effect
    return found


def failures(processed: Sequence[ProcessedEvent]) -> list[Failure]:
    """Return the events that failed, with their errors."""
    return [
        failure(p.outcome.key.id, p.outcome.state, p.outcome.reason)
        for p in processed
        if p.outcome.state in (EventState.DEAD, EventState.RETRYING)
    ]


def failure(event_id: str, state: str | None, error: str | None) -> Failure:
    """Return a failure with its error cut to its length."""
    short = None if error is None else error[:ERROR_LENGTH_MAX].replace("\0", "\\x00")
    return Failure(id=event_id, state=state, error=short)


def touched(processed: Sequence[ProcessedEvent]) -> list[UUID]:
    """Return the organizations that events were applied to, in the order of their ids."""
    found = {p.outcome.organization_id for p in processed}
    found |= {p.result.organization_id for p in processed if p.result is not None}
    return sorted(each for each in found if each is not None)


def changes(rows: Sequence[PostedRow]) -> list[OrganizationChange]:
    """Add up rows, which are in the order of their organizations and numbers."""
    return [
        OrganizationChange(
            organization_id=organization_id,
            before=of_one[0].balance_after - of_one[0].amount,
            after=of_one[-1].balance_after,
            transaction_ids=tuple(row.id for row in of_one),
        )
        for organization_id, group in groupby(rows, key=lambda row: row.organization_id)
        if (of_one := list(group))
    ]


def not_tried(deleted_at: datetime | None) -> str:
    """Return why an event was not tried; `deleted_at`: when its payload was deleted."""
    if deleted_at is None:
        return NOT_TRIED
    return (
        f"not tried: its payload was deleted on {deleted_at:%Y-%m-%d} (PREPAID_EVENT_RETENTION);"
        " replay with --refetch"
    )


def _posted(event: ProcessedEvent) -> PostedTransaction | None:
    posting = event.result
    return posting if posting is not None and posting.status is PostingStatus.POSTED else None
