"""Stripe events and purchases that more than one test file needs, and how they are applied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox.signed_events import event
from shared.ids import new_id
from tests.fixtures.product import receive

if TYPE_CHECKING:
    from uuid import UUID

    from shared.db.pool import Pool
    from shared.organizations.model import Organization
    from worker.drainer import Drainer

CUSTOMER = "cus_1"


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


async def purchase_state(pool: Pool, purchase_id: UUID) -> str:
    state: str = await pool.fetchval("SELECT state FROM purchases WHERE id = $1", purchase_id)
    return state


async def apply(pool: Pool, drainer: Drainer, *bodies: bytes) -> None:
    await receive(pool, *bodies)
    await drainer.drain()


async def make_due(pool: Pool) -> None:
    """Let the backoff pass."""
    await pool.execute("UPDATE stripe_events SET available_at = now() WHERE state = 'retrying'")
    await pool.execute("UPDATE event_breakers SET paused_until = now()")
