"""Types of the inbox: deliveries, stored events, leases and outcomes."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

import msgspec

UNIX_SECONDS_MAX = 253_402_300_799  # the end of the year 9999

# Where Stripe delivers events.
DELIVERY_PATH = "/v1/webhooks/stripe"


class EventState(enum.StrEnum):
    """States of a stored event; docs/states.md draws them."""

    RECEIVED = "received"
    RETRYING = "retrying"
    APPLIED = "applied"
    IGNORED = "ignored"
    DEAD = "dead"
    DISCARDED = "discarded"
    QUARANTINED = "quarantined"


class Lane(enum.StrEnum):
    """Queues of open events. Each lane is claimed separately, so that none delays another."""

    SHARED = "shared"
    """New events: applied many in one transaction."""

    ALONE = "alone"
    """Failed before, or lost one lease: claimed with few others."""

    STRIPE = "stripe"
    """Needs an answer from Stripe."""

    SUSPECT = "suspect"
    """Lost several leases: claimed alone, so that the next crash affects no other event."""

    @property
    def after_a_lost_lease(self) -> Lane:
        """Return the lane of an event whose first lease expired in this lane.

        After another one in a row it is SUSPECT. What waits for Stripe still waits with others: one
        by one, each would wait for the answers of those before it.
        """
        return _AFTER_A_LOST_LEASE[self]


_AFTER_A_LOST_LEASE = {
    Lane.SHARED: Lane.ALONE,
    Lane.ALONE: Lane.SUSPECT,
    Lane.STRIPE: Lane.STRIPE,
    Lane.SUSPECT: Lane.SUSPECT,
}


class EventHeader(msgspec.Struct, frozen=True):
    """The fields of a Stripe event that decide whether and how it is stored.

    The rest of the document must be valid JSON and is stored unchanged.
    Source: https://docs.stripe.com/api/events/object
    """

    id: str
    type: str
    object: str
    created: Annotated[int, msgspec.Meta(ge=0, le=UNIX_SECONDS_MAX)]
    livemode: bool = False
    account: str | None = None
    api_version: str | None = None


class ObjectName(msgspec.Struct, frozen=True):
    """Type and id of a Stripe object."""

    id: str
    object: str


class EventData(msgspec.Struct, frozen=True):
    """The `data` of an event."""

    object: ObjectName


class EventObject(msgspec.Struct, frozen=True):
    """Which object an event is about."""

    data: EventData


class Delivery(msgspec.Struct, frozen=True):
    """A verified event to be stored. `quarantine` is the reason why it must not be applied."""

    header: EventHeader
    payload: str
    request_id: str
    quarantine: str | None


class Receipt(msgspec.Struct, frozen=True):
    """Proof that an event is durable. `duplicate`: it was stored before this delivery."""

    event_id: str
    duplicate: bool


class EventKey(msgspec.Struct, frozen=True, order=True):
    """Primary key of an event: Stripe's id within an account and a mode."""

    account: str
    livemode: bool
    id: str


@dataclass(frozen=True, slots=True)
class ClaimedEvent:
    """A leased event. `attempts` includes the current one.

    `leases_lost` counts the consecutive earlier leases that expired. `payload_deleted_at`: since
    then, `payload` is only what the retention left of it. `types_paused`: it was claimed while
    types were paused, so that events of other types may be due too.
    """

    key: EventKey
    type: str
    api_version: str | None
    payload: str
    attempts: int
    received_at: datetime
    request_id: str | None
    leases_lost: int = 0
    payload_deleted_at: datetime | None = None
    types_paused: bool = False

    @property
    def has_failed(self) -> bool:
        """Whether an earlier attempt failed, other than by a lost lease."""
        return self.attempts - self.leases_lost > 1

    @property
    def id(self) -> str:
        """Stripe's `evt_…`."""
        return self.key.id

    def with_payload(self, payload: str) -> ClaimedEvent:
        """Return the event with a whole payload, such as one that was read from Stripe again."""
        return replace(self, payload=payload, payload_deleted_at=None)


@dataclass(frozen=True, slots=True)
class EventOutcome:
    """The outcome of an attempt. `retry_in` and `lane` are set for `retrying` only.

    PostgreSQL computes the time of the next attempt, because workers' clocks may differ.

    An ignored event can wait for `waits_for`: a Stripe id that no organization has, or the name of
    an organization that does not exist.
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
