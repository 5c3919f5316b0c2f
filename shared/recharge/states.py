"""The ranks of suspensions, and the deadlines of live attempts. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from shared.recharge.model import (
    ENDED_BY_A_PERSON,
    ArmedAttempt,
    Attempt,
    AttemptState,
    SuspensionReason,
    Trigger,
)

LINK_LIFETIME = timedelta(hours=23)
# The customer of a top-up is present: an unfinished one ends soon.
TOP_UP_LIFETIME = timedelta(minutes=30)
UNANSWERED_MAX = timedelta(hours=24)
# The slowest bank debits settle within 14 business days; a month leaves room for holidays. Until
# then the payment may succeed: an attempt that ended earlier could be charged twice.
# Source: https://docs.stripe.com/payments/bank-debits
PROCESSING_MAX = timedelta(days=30)

# A reason of higher rank replaces one of lower rank, never the reverse. Reasons that a person ends
# outrank those that end by themselves; a refund outranks an inquiry that it may have closed; an
# operator can always suspend, and replace the detail.
_RANKS: dict[SuspensionReason, int] = {
    SuspensionReason.DECLINES: 0,
    SuspensionReason.CAP: 0,
    SuspensionReason.NO_CARD: 0,
    SuspensionReason.AUTHENTICATION_EXPIRED: 0,
    SuspensionReason.INQUIRY: 1,
    SuspensionReason.REFUNDED: 2,
    **dict.fromkeys(ENDED_BY_A_PERSON, 3),
    SuspensionReason.OPERATOR: 4,
}


def outranked(reason: SuspensionReason) -> frozenset[SuspensionReason]:
    """Return the reasons that this one replaces, active or stored while off."""
    below = {other for other, rank in _RANKS.items() if rank < _RANKS[reason]}
    return frozenset(below | ({reason} if reason is SuspensionReason.OPERATOR else set()))


class Ending(StrEnum):
    """How an attempt leaves a state after its deadline."""

    DECIDED = "charged or canceled, as the rule and the balance are then"
    GIVEN_UP = "canceled: without a PaymentIntent at once, else as soon as Stripe cancels it"
    EXPIRED = "canceled at Stripe; a rule's attempt suspends it"
    WRITTEN_OFF = "canceled where Stripe can, else failed; a rule's attempt suspends it"


@dataclass(frozen=True, slots=True)
class Deadline:
    """How long an attempt may stay in a state, counted from when it was armed or began."""

    lasts: timedelta
    lasts_for_top_up: timedelta
    ending: Ending


# Every live state has a deadline and a way out. docs/states.md shows this table.
DEADLINES: dict[AttemptState, Deadline] = {
    AttemptState.ARMED: Deadline(UNANSWERED_MAX, UNANSWERED_MAX, Ending.DECIDED),
    AttemptState.CHARGING: Deadline(UNANSWERED_MAX, TOP_UP_LIFETIME, Ending.GIVEN_UP),
    AttemptState.UNKNOWN: Deadline(UNANSWERED_MAX, TOP_UP_LIFETIME, Ending.GIVEN_UP),
    AttemptState.REQUIRES_ACTION: Deadline(LINK_LIFETIME, TOP_UP_LIFETIME, Ending.EXPIRED),
    AttemptState.PROCESSING: Deadline(PROCESSING_MAX, PROCESSING_MAX, Ending.WRITTEN_OFF),
}


def deadline(attempt: Attempt) -> datetime:
    """Return the deadline of a live attempt in its state.

    The time of a link counts from its creation.
    """
    limit = DEADLINES[attempt.state]
    lasts = limit.lasts_for_top_up if attempt.trigger is Trigger.TOP_UP else limit.lasts
    if isinstance(attempt, ArmedAttempt):
        return attempt.created_at + lasts
    if attempt.state is AttemptState.REQUIRES_ACTION and attempt.link_expires_at is not None:
        return attempt.link_expires_at
    return attempt.charged_at + lasts


def link_lifetime(trigger: Trigger) -> timedelta:
    """Return how long a customer can authenticate a payment."""
    return TOP_UP_LIFETIME if trigger is Trigger.TOP_UP else LINK_LIFETIME
