"""The inbox's words: what Stripe delivered, and what became of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

import msgspec

UNIX_SECONDS_MAX = 253_402_300_799  # the end of the year 9999


class EventState(enum.StrEnum):
    """The life of a stored event; docs/states.md draws it."""

    RECEIVED = "received"
    RETRYING = "retrying"
    APPLIED = "applied"
    IGNORED = "ignored"
    DEAD = "dead"
    DISCARDED = "discarded"
    QUARANTINED = "quarantined"


class Lane(enum.StrEnum):
    """Where an open event waits. Each lane is claimed by itself, so that none waits for another."""

    SHARED = "shared"
    """Applied in one transaction with others."""

    ALONE = "alone"
    """Failed before, or lost one worker: claimed with few others."""

    STRIPE = "stripe"
    """Needs an answer of Stripe's."""

    SUSPECT = "suspect"
    """Its worker died or froze: claimed alone, so that no other event shares the next crash."""

    @property
    def after_a_lost_lease(self) -> Lane:
        """Return the lane of an event whose lease on this lane ran out."""
        return Lane.ALONE if self is Lane.SHARED else Lane.SUSPECT


class EventHeader(msgspec.Struct, frozen=True):
    """The part of a Stripe event that decides whether and how it is stored.

    The rest of the document is checked to be JSON and kept as it came.
    Source: https://docs.stripe.com/api/events/object
    """

    id: str
    type: str
    object: str
    created: Annotated[int, msgspec.Meta(ge=0, le=UNIX_SECONDS_MAX)]
    livemode: bool = False
    account: str | None = None
    api_version: str | None = None


class Delivery(msgspec.Struct, frozen=True):
    """A verified event on its way into the inbox. `quarantine` says why it must not be applied."""

    header: EventHeader
    payload: str
    request_id: str
    quarantine: str | None


class Receipt(msgspec.Struct, frozen=True):
    """The event is durable. `duplicate`: it was before this delivery."""

    event_id: str
    duplicate: bool


class EventKey(msgspec.Struct, frozen=True, order=True):
    """What makes an event one: Stripe's id within an account and a mode."""

    account: str
    livemode: bool
    id: str


@dataclass(frozen=True, slots=True)
class ClaimedEvent:
    """An event under a lease. `attempts` counts this one.

    `leases_lost` counts the workers before this one that let their lease run out, in a row.
    """

    key: EventKey
    type: str
    api_version: str | None
    payload: str
    attempts: int
    received_at: datetime
    request_id: str | None
    leases_lost: int = 0

    @property
    def has_failed(self) -> bool:
        """Whether an attempt before this one came to a failure, and not to a lost lease."""
        return self.attempts - self.leases_lost > 1

    @property
    def id(self) -> str:
        """Stripe's `evt_…`."""
        return self.key.id


@dataclass(frozen=True, slots=True)
class EventOutcome:
    """What an attempt came to. `retry_in` and `lane` are set for `retrying` alone.

    The moment of the next attempt is PostgreSQL's to compute: workers' clocks may differ.

    `waits_for` is the Stripe id, or the name of an organization, whose owner an ignored event waits
    for.
    """

    key: EventKey
    state: EventState
    reason: str | None = None
    error_class: str | None = None
    error_trace: str | None = None
    retry_in: timedelta | None = None
    lane: Lane | None = None
    organization_id: UUID | None = None
    waits_for: str | None = None
