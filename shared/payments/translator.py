"""The translator: reads Stripe's objects from events and from Stripe's responses.

A field that is missing or has another shape raises a MalformedEventError that names it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from shared.errors import MalformedEventError
from shared.payments.objects import Seconds, StripeObject

S = TypeVar("S", bound=msgspec.Struct)
K = TypeVar("K", bound=StripeObject)


class _Data(msgspec.Struct, frozen=True):
    object: msgspec.Raw
    previous_attributes: msgspec.Raw = msgspec.Raw(b"null")


class _Envelope(msgspec.Struct, frozen=True):
    data: _Data
    created: Seconds = 0


class _Named(msgspec.Struct, frozen=True):
    object: str | None = None


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_name = msgspec.json.Decoder(_Named).decode


def read(payload: str, kind: type[K]) -> K:
    """Return the event's object as the given kind.

    Raises MalformedEventError, which names the field, also for an object of another kind.
    """
    try:
        envelope = _decode_envelope(payload)
        name = _decode_name(envelope.data.object).object
        if name is not None and name not in kind.OBJECTS:
            raise MalformedEventError(
                f"The event's object is a {name[:100]!r}, and not a {kind.__name__}."
            )
        return msgspec.json.decode(envelope.data.object, type=kind)
    except msgspec.MsgspecError as error:
        raise MalformedEventError(f"Cannot read the event's {kind.__name__}: {error}") from None


def read_previous(payload: str, kind: type[S]) -> S | None:
    """Return the event's `previous_attributes` as the given kind; None: it has none."""
    try:
        previous = _decode_envelope(payload).data.previous_attributes
        return msgspec.json.decode(previous, type=kind | None)
    except msgspec.MsgspecError as error:
        raise MalformedEventError(f"Cannot read what was before: {error}") from None


def event_created_at(payload: str) -> datetime:
    """Return the time of the event at Stripe."""
    try:
        return datetime.fromtimestamp(_decode_envelope(payload).created, UTC)
    except msgspec.MsgspecError as error:
        raise MalformedEventError(f"Cannot read the event's moment: {error}") from None


def from_answer(answer: Any, kind: type[S]) -> S:
    """Return an object of Stripe's answer as the given kind; raise MalformedEventError."""
    try:
        return msgspec.convert(answer, type=kind)
    except msgspec.MsgspecError as error:
        raise MalformedEventError(f"Cannot read Stripe's {kind.__name__}: {error}") from None
