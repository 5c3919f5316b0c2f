"""What the outside saw: requests and their answers, and events that got a 200."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum


class Outcome(StrEnum):
    """What the caller of a request knows at its end."""

    ACCEPTED = "answered 2xx: done, once"
    REFUSED = "answered 4xx, and every attempt before it got an answer: nothing was done"
    UNCLEAR = "no answer, or a 4xx after an attempt without one: done once, or not at all"


@dataclass(frozen=True, slots=True)
class Debit:
    """Usage of credits, by its own key; `amount` is positive."""

    organization: str
    key: str
    amount: Decimal
    outcome: Outcome


@dataclass(slots=True)
class HoldRecord:
    """A hold, and what the caller asked for then."""

    organization: str
    key: str
    amount: Decimal
    outcome: Outcome
    captured: Decimal | None = None  # asked to capture so much; None: asked to release, or nothing
    end: Outcome | None = None  # of the capture or the release; None: left to expire


@dataclass(frozen=True, slots=True)
class GrantRecord:
    """Credits granted by hand, by the caller's own key."""

    organization: str
    key: str
    amount: Decimal
    outcome: Outcome


@dataclass(slots=True)
class TopUp:
    """A top-up by its Idempotency-Key, and the attempts that answers named."""

    organization: str
    key: str
    attempts: set[str] = field(default_factory=set)
    succeeded: bool = False


@dataclass(slots=True)
class Journal:
    """Everything that the clients and the sender of events saw."""

    debits: list[Debit] = field(default_factory=list)
    holds: list[HoldRecord] = field(default_factory=list)
    top_ups: list[TopUp] = field(default_factory=list)
    acknowledged: set[str] = field(default_factory=set)  # ids of events that got a 200
    received: set[str] = field(default_factory=set)  # ids of messages that the app answered 200
    requests: int = 0
    accepted: int = 0
    unanswered: int = 0
    grants: list[GrantRecord] = field(default_factory=list)
