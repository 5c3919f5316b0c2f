"""Decisions of the inbox: validity, quarantine, retries and dead letters. Pure."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from datetime import timedelta

import msgspec

from shared.errors import (
    EventError,
    InvalidRequestError,
    LeasesLostError,
    PayloadDeletedError,
    StripeFailedError,
    StripeMissingError,
    UnclaimedError,
)
from shared.inbox.model import (
    ClaimedEvent,
    EventHeader,
    EventObject,
    EventOutcome,
    EventState,
    Lane,
)

EVENT_ID_LENGTH_MAX = 255
ATTEMPTS_MAX = 12
BACKOFF_SECONDS_FIRST = 1
BACKOFF_SECONDS_MAX = 15 * 60
JITTER = 0.2
UNANSWERED_ATTEMPTS_MAX = 300  # about three days
TRACE_LENGTH_MAX = 8_000

# An event shares at most two crashes with the one that caused them; after that it is claimed alone.
LEASES_LOST_MAX = 5

# A type with this many consecutive unexpected failures is paused: its handler is broken.
BREAKER_FAILURES = 10
BREAKER_PAUSE_SECONDS_FIRST = 5
BREAKER_PAUSE_SECONDS_MAX = 5 * 60

# Source: https://docs.stripe.com/event-destinations#thin-events
_THIN = "it is a thin event, without its object. Choose the payload style `snapshot` in Stripe."

REMOVED = "[removed]"
_CLIENT_SECRET = re.compile(r'("client_secret"\s*+:\s*+)"(?:[^"\\]++|\\.)*+"')
_header = msgspec.json.Decoder(EventHeader)
_named = msgspec.json.Decoder(EventObject)


def read_header(body: bytes) -> tuple[EventHeader, str]:
    """Return the event's header and its text; raise InvalidRequestError for anything else.

    Parses the whole document, so that only valid JSON in UTF-8 is stored.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequestError("The body is not UTF-8.") from None
    try:
        header = _header.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        why = _THIN if '"v2.core.event"' in text else error
        raise InvalidRequestError(f"The body is not a Stripe event: {why}") from None
    words = (header.id, header.type, header.account or "-", header.api_version or "-")
    if header.object != "event" or not _are_plain(words):
        raise InvalidRequestError("The body is not a Stripe event.")
    return header, text


def without_client_secrets(payload: str) -> str:
    """Return a JSON text in which every `client_secret`, at any depth, is `[removed]`.

    A client secret allows reading and confirming its payment; no effect of an event needs it.
    """
    if '"client_secret"' not in payload:
        return payload
    return _CLIENT_SECRET.sub(rf'\1"{REMOVED}"', payload)


def without_data(payload: str, event_id: str, event_type: str) -> str:
    """Return what is left of a deleted payload: its header, and its object's type and id."""
    left: dict[str, object] = {"id": event_id, "object": "event", "type": event_type}
    try:
        found = _named.decode(payload).data.object
        left["data"] = {"object": {"id": found.id, "object": found.object}}
    except (msgspec.DecodeError, RecursionError):
        pass  # an object without an id, such as an invoice to come, cannot be read again
    return msgspec.json.encode(left).decode()


def _are_plain(words: tuple[str, ...]) -> bool:
    # These become keys and log fields. PostgreSQL refuses NUL in text, and one refused row would
    # fail every delivery in the same commit.
    text = "".join(words)
    lengths = [*map(len, words)]
    within = min(lengths) > 0 and max(lengths) <= EVENT_ID_LENGTH_MAX
    return within and text.isascii() and text.isprintable()


def quarantine_reason(
    header: EventHeader, *, livemode: bool, accounts: AbstractSet[str]
) -> str | None:
    """Return why an event must be stored but not applied; None: it may be applied."""
    if header.livemode != livemode:
        sent, here = ("live", "test") if header.livemode else ("test", "live")
        return f"a {sent} event, and this installation's key is a {here} one"
    if header.account is not None and header.account not in accounts:
        return f"the account {header.account} is not listed in PREPAID_STRIPE_ACCOUNTS"
    return None


def backoff(attempts: int, *, random: float) -> timedelta:
    """Return the wait after this attempt: doubling from 1 s to 15 min, ±20 %.

    `random` is a number from 0 to 1; the jitter spreads events that failed together.
    """
    seconds = min(BACKOFF_SECONDS_FIRST * 2 ** min(attempts - 1, 16), BACKOFF_SECONDS_MAX)
    return timedelta(seconds=seconds * (1 + JITTER * (2 * random - 1)))


def breaker_pause(failures_in_row: int) -> timedelta | None:
    """Return the pause of a type after this many consecutive failures; None for no pause."""
    if failures_in_row < BREAKER_FAILURES:
        return None
    doublings = min(failures_in_row - BREAKER_FAILURES, 16)
    return timedelta(
        seconds=min(BREAKER_PAUSE_SECONDS_FIRST * 2**doublings, BREAKER_PAUSE_SECONDS_MAX)
    )


def is_deterministic(error: BaseException) -> bool:
    """Whether a retry cannot succeed without a change to code, data or settings."""
    return isinstance(error, EventError)


def waits_for_organization(name: str) -> str:
    """Return the `waits_for` of an event whose organization, an id or slug, does not exist yet."""
    return f"organization:{name}"


def is_unanswered(error: BaseException) -> bool:
    """Whether Stripe gave no answer: an outage, or an invalid or restricted API key."""
    return isinstance(error, StripeFailedError) and not isinstance(error, StripeMissingError)


def poison(event: ClaimedEvent) -> EventError | None:
    """Return why an event must not be applied: workers died on it, or its payload was deleted.

    What the retention left of a payload has no amount and no organization: applied, it would be
    ignored or misread.
    """
    if event.payload_deleted_at is not None:
        return PayloadDeletedError(
            f"Its payload was deleted on {event.payload_deleted_at:%Y-%m-%d}"
            " (PREPAID_EVENT_RETENTION); replay with --refetch."
        )
    if event.leases_lost < LEASES_LOST_MAX:
        return None
    return LeasesLostError(
        f"{event.leases_lost} workers in a row died or froze while they applied it."
    )


def after_failure(
    event: ClaimedEvent, error: BaseException, trace: str, *, random: float
) -> EventOutcome:
    """Decide between another attempt and a dead letter.

    An event that only waits for an answer from Stripe is retried for days, as Stripe retries its
    own deliveries.
    """
    attempts_max = UNANSWERED_ATTEMPTS_MAX if is_unanswered(error) else ATTEMPTS_MAX
    gives_up = is_deterministic(error) or event.attempts >= attempts_max
    return EventOutcome(
        key=event.key,
        state=EventState.DEAD if gives_up else EventState.RETRYING,
        reason=str(error)[:1000] or type(error).__name__,
        error_class=type(error).__name__,
        error_trace=trace[-TRACE_LENGTH_MAX:],
        retry_in=None if gives_up else backoff(event.attempts, random=random),
        waits_for=error.waits_for if isinstance(error, UnclaimedError) else None,
        lane=Lane.STRIPE if is_unanswered(error) else Lane.ALONE,
    )
