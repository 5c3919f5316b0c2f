"""Stripe events that more than one test file needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from sandbox.signed_events import event
from shared.ids import new_id

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization


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


async def open_purchase(
    pool: Pool, organization: Organization, name: str, *, state: str = "open"
) -> UUID:
    """Store a purchase as the checkout would have."""
    purchase_id = new_id()
    await pool.execute(
        "INSERT INTO purchases (id, organization_id, amount_minor, currency, checkout_session_id,"
        " state, settled_at) VALUES ($1, $2, 1000, 'usd', $3, $4,"
        " CASE WHEN $4 = 'open' THEN NULL ELSE now() END)",
        purchase_id,
        organization.id,
        f"cs_{name}",
        state,
    )
    return purchase_id
