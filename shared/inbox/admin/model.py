"""Which events an operator lists, replays or discards, and what dead letters have in common."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import msgspec

from shared.inbox.model import EventState


class EventFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Events in one state; of a type, since a moment, with an error class: None for any."""

    state: EventState = EventState.DEAD
    type: str | None = None
    since: datetime | None = None
    error_class: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a selection continues: after this event."""

    received_at: datetime
    id: str


@dataclass(frozen=True, slots=True)
class Cause:
    """The dead letters of one type and error class.

    `events` ends at a limit, which `is_exact` says; the last one stands for the others.
    """

    type: str
    error_class: str
    events: int
    is_exact: bool
    first_at: datetime
    last_at: datetime
    last_id: str
    last_error: str
