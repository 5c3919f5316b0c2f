"""Whose money a stored event is about: customer, amount, PaymentIntent and organization. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec

from shared.money import minor_unit_exponent

# Where Stripe's objects have the amount that was paid, the most exact first.
_AMOUNTS = ("amount_received", "amount_total", "amount_paid", "amount")


@dataclass(frozen=True, slots=True)
class EventMoney:
    """What an event says of its payment; None for what it does not say.

    `amount` is in units of `currency`. `organization` is the name in the metadata, be there such an
    organization or not.
    """

    customer_id: str | None = None
    amount: Decimal | None = None
    currency: str | None = None
    payment_intent_id: str | None = None
    organization: str | None = None


def money_of(payload: str) -> EventMoney:
    """Read a payload of any shape, a malformed one too."""
    try:
        event: Any = msgspec.json.decode(payload)
    except (msgspec.DecodeError, RecursionError):
        return EventMoney()
    found = _mapping(_mapping(event).get("data")).get("object")
    about = _mapping(found)
    currency = about.get("currency")
    currency = currency if isinstance(currency, str) else None
    metadata = _mapping(about.get("metadata"))
    named = metadata.get("organization_id") or about.get("client_reference_id")
    kind = about.get("object")
    return EventMoney(
        customer_id=_reference(about.get("id" if kind == "customer" else "customer")),
        amount=_amount(about, currency),
        currency=currency,
        payment_intent_id=_reference(
            about.get("id" if kind == "payment_intent" else "payment_intent")
        ),
        organization=named if isinstance(named, str) else None,
    )


def _amount(about: dict[str, Any], currency: str | None) -> Decimal | None:
    if currency is None:
        return None
    for name in _AMOUNTS:
        minor = about.get(name)
        if isinstance(minor, int) and not isinstance(minor, bool):
            return Decimal(minor).scaleb(-minor_unit_exponent(currency))
    return None


def _reference(value: Any) -> str | None:
    """Return the id of an object that is named or expanded."""
    found = _mapping(value).get("id", value)
    return found if isinstance(found, str) else None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
