"""Stripe events that more than one test file needs."""

from __future__ import annotations

from typing import Any

from sandbox.signed_events import event


def session(name: str, event_type: str = "completed", **changes: Any) -> bytes:
    """Return the event `evt_cs_<name>_<type>` of a paid Checkout Session of `pi_<name>`."""
    checkout = {
        "id": f"cs_{name}",
        "object": "checkout.session",
        "mode": "payment",
        "payment_status": "paid",
        "amount_total": 1000,
        "currency": "usd",
        "payment_intent": f"pi_{name}",
        "customer": None,
        "client_reference_id": None,
        "metadata": {"organization_id": "acme"},
        **changes,
    }
    return event(f"cs_{name}_{event_type}", f"checkout.session.{event_type}", checkout)
