"""The rows of the inbox and of what its events credit, as immutable values."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from decimal import Decimal

from shared.inbox.model import EventState, Lane
from shared.payments.objects import ATTEMPT_METADATA, ORGANIZATION_METADATA
from shared.recharge.model import AttemptState
from tests.explorer.recharge_tables import (
    AMOUNT,
    BEGINNING,
    CUSTOMER,
    FIRST_CARD,
    ORGANIZATION,
    Attempt,
    Tables,
)
from tests.explorer.stepping import Remembered, Row
from tests.explorer.stripe_model import AMOUNT_MINOR

OPEN = (EventState.RECEIVED, EventState.RETRYING)
ATTEMPT = Attempt(
    number=1, created_at=BEGINNING, state=AttemptState.SUCCEEDED, amount=AMOUNT,
    amount_minor=AMOUNT_MINOR, charged_at=BEGINNING, method=FIRST_CARD, intent="pi_1",
)  # fmt: skip


def _payload(event_id: str, intent_id: str, *, customer: str | None, named: bool) -> str:
    metadata = {ORGANIZATION_METADATA: str(ORGANIZATION), ATTEMPT_METADATA: str(ATTEMPT.id)}
    intent = {
        "id": intent_id,
        "object": "payment_intent",
        "amount": AMOUNT_MINOR,
        "amount_received": AMOUNT_MINOR,
        "currency": "usd",
        "status": "succeeded",
        "customer": customer,
        "metadata": metadata if named else {},
    }
    event = {
        "id": event_id,
        "object": "event",
        "type": "payment_intent.succeeded",
        "created": int(BEGINNING.timestamp()),
        "data": {"object": intent},
    }
    return json.dumps(event)


# Two events about one payment, as Stripe may create them, and one whose customer is not known yet.
PAYMENTS = {"evt_1": "pi_1", "evt_2": "pi_1", "evt_3": "pi_2"}
PAYLOADS = {
    "evt_1": _payload("evt_1", "pi_1", customer=None, named=True),
    "evt_2": _payload("evt_2", "pi_1", customer=None, named=True),
    "evt_3": _payload("evt_3", "pi_2", customer=CUSTOMER, named=False),
}


@dataclass(frozen=True, kw_only=True)
class Event(Remembered):
    """A row of `stripe_events`. `lease` is the process whose token it has.

    `was_applied`: its effects were committed with an outcome, now or before a replay.
    """

    __hash__ = Remembered.__hash__

    id: str
    state: EventState = EventState.RECEIVED
    lane: Lane = Lane.SHARED
    lease: str | None = None
    lease_over: bool = False
    attempts: int = 0
    leases_lost: int = 0
    waits_for: str | None = None
    was_applied: bool = False

    @property
    def can_be_leased(self) -> bool:
        """Whether a worker may lease it. It may be due at any time: no wait is exact."""
        return self.state in OPEN and (self.lease is None or self.lease_over)

    def row(self, **more: object) -> Row:
        return Row(
            account="",
            livemode=False,
            id=self.id,
            type="payment_intent.succeeded",
            api_version=None,
            payload=PAYLOADS[self.id],
            attempts=self.attempts,
            received_at=BEGINNING,
            request_id=None,
            leases_lost=self.leases_lost,
            payload_forgotten_at=None,
            **more,
        )


@dataclass(frozen=True, kw_only=True)
class InboxTables(Tables):
    """What PostgreSQL has: the events, and the payments and ledger rows that they make."""

    __hash__ = Remembered.__hash__

    attempts: tuple[Attempt, ...] = (ATTEMPT,)
    balance: Decimal = Decimal(0)
    customer: str | None = None
    events: tuple[Event, ...] = ()

    def event(self, event_id: str) -> Event | None:
        return next((event for event in self.events if event.id == event_id), None)

    def with_event(self, event: Event) -> InboxTables:
        """Return the rows with a changed event, or a new one."""
        others = [each for each in self.events if each.id != event.id]
        return replace(self, events=tuple(sorted([*others, event], key=lambda each: each.id)))
