"""Makes signed Stripe events as Stripe delivers them, for benchmarks and tests."""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

import msgspec

from sandbox.stripe.objects import API_VERSION

# An event from a real account has about 2.8 kB; the benchmarks' figures mean such events.
EVENT_BYTES = 2800


def payment_intent_succeeded(
    name: str, *, organization: str, amount: int = 1000, padded: bool = False, **changes: Any
) -> bytes:
    """Return the event `evt_<name>`, which tells that `pi_<name>` captured an amount in cents.

    `changes` replace fields of the PaymentIntent.
    """
    intent = {
        "id": f"pi_{name}",
        "object": "payment_intent",
        "amount": amount,
        "amount_received": amount,
        "currency": "usd",
        "customer": None,
        "latest_charge": f"ch_{name}",
        "livemode": False,
        "metadata": {"organization_id": organization},
        "status": "succeeded",
        **changes,
    }
    if padded:
        intent["description"] = ""
        intent["description"] = "x" * (
            EVENT_BYTES - len(event(name, "payment_intent.succeeded", intent))
        )
    return event(name, "payment_intent.succeeded", intent)


def purchase_id(name: str) -> UUID:
    """Return the id of the purchase that `pi_<name>` pays."""
    return uuid5(NAMESPACE_OID, name)


def purchase_paid(name: str, *, organization: str, **changes: Any) -> bytes:
    """Return `payment_intent_succeeded` of a checkout of ours: Stripe need not be asked."""
    metadata = {"organization_id": organization, "purchase_id": str(purchase_id(name))}
    return payment_intent_succeeded(name, organization=organization, metadata=metadata, **changes)


def event(name: str, event_type: str, data_object: Any, **changes: Any) -> bytes:
    """Return the event `evt_<name>` around any object; `changes` replace fields of the event."""
    body = {
        "id": f"evt_{name}",
        "object": "event",
        "api_version": API_VERSION,
        "created": int(time.time()),
        "data": {"object": data_object},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": event_type,
        **changes,
    }
    return msgspec.json.format(msgspec.json.encode(body), indent=2)


def signature(body: bytes, secret: str, timestamp: int | None = None) -> str:
    """Return the Stripe-Signature header of a body.

    Source: https://docs.stripe.com/webhooks#verify-manually
    """
    moment = int(time.time()) if timestamp is None else timestamp
    digest = hmac.new(secret.encode(), b"%d." % moment + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={digest}"
