"""Transitions of an attempt as data: the write, and the effect that commits with it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.access.model import Actor
from shared.payments.payment_intents import Intent, Subject
from shared.recharge.model import FINAL_STATES, AttemptState, SuspensionReason


@dataclass(frozen=True, slots=True)
class Link:
    """A link to the authentication page: its digest, its URL and its expiry."""

    sha256: bytes
    url: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Capture:
    """The payment succeeded: credit it."""

    intent: Intent


@dataclass(frozen=True, slots=True)
class Uncredited:
    """The payment succeeded, and the ledger refuses its credits: suspend, and leave it to a person.

    The payment is bound to nobody: its event credits it once the cause is gone, or it is refunded.
    """

    intent: Intent


@dataclass(frozen=True, slots=True)
class Decline:
    """The payment was declined: count it, and wait or suspend. `hard`: suspend at once."""

    hard: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """The charge can never succeed: suspend for this reason."""

    suspension: SuspensionReason


@dataclass(frozen=True, slots=True)
class MissingObject:
    """Stripe has no such customer or payment method: detach it, and suspend without another."""

    subject: Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancellation:
    """Nothing was charged.

    `due_again`: the schedule runs again later. `rearm`: a pause ends, and the rule arms again if it
    still applies. `suspension`: auto-recharge is suspended for this reason, until `until`.
    `refused_by` is the cause for which Stripe refuses this installation.
    """

    due_again: bool = False
    rearm: bool = False
    suspension: SuspensionReason | None = None
    until: datetime | None = None
    refused_by: str | None = None


@dataclass(frozen=True, slots=True)
class CancellationRequest:
    """Who requested a cancellation, and why: for the audit log."""

    actor: Actor | str
    reason: str | None


@dataclass(frozen=True, slots=True)
class CancellationOnRequest:
    """Nothing was charged, at a person's request. `waits`: arm nothing before new usage.

    Without a `request`, a top-up replaces the attempt, and nothing is audited.
    """

    waits: bool
    request: CancellationRequest | None = None


@dataclass(frozen=True, slots=True)
class ExpiredLink:
    """The customer did not authenticate in time: arm again with another card, else suspend."""


@dataclass(frozen=True, slots=True)
class CustomerAction:
    """The customer must authenticate: pause the rule, and announce the page."""

    intent: Intent


@dataclass(frozen=True, slots=True)
class Alert:
    """Stripe refuses this installation: raise the alert that the attempt waits for."""

    cause: str
    detail: str


Effect = (
    Capture
    | Uncredited
    | Decline
    | Failure
    | MissingObject
    | Cancellation
    | CancellationOnRequest
    | ExpiredLink
    | CustomerAction
    | Alert
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One fenced write that releases the lease, and the effect that commits with it.

    A live attempt is due again after `wait`; without one, when its customer's link expires.
    `new_create_key`: its PaymentIntent is created under another idempotency key from now on.
    """

    state: AttemptState
    effect: Effect | None = None
    reason: str | None = None
    detail: str | None = None
    decline_code: str | None = None
    network_advice: str | None = None
    blocked_by: str | None = None
    wait: timedelta | None = None
    link: Link | None = None
    new_create_key: bool = False

    @property
    def is_final(self) -> bool:
        """Return whether the attempt ends."""
        return self.state in FINAL_STATES


@dataclass(frozen=True, slots=True)
class CancelFirst:
    """Cancel the PaymentIntent at Stripe, then commit `then`.

    If Stripe does not confirm the cancellation, commit `otherwise`, or else try again later.
    """

    payment_intent_id: str
    then: Transition
    otherwise: Transition | None = None


Step = Transition | CancelFirst
