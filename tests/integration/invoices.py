"""Events of invoices, and what became of them."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

from sandbox.signed_events import event
from tests.fixtures.product import (
    event_states,
    receive,
)
from worker.drainer import Drainer

if TYPE_CHECKING:
    from shared.db.pool import Pool

KEY = "stripe-invoice:in_1"
ACME = {"organization_id": "acme"}
_numbers = itertools.count()


def line(price: Any = "price_1", amount: int = 2000, **changes: Any) -> dict[str, Any]:
    """Return a line as Stripe has sent it since 2025-03-31."""
    proration = changes.pop("proration", False)
    return {
        "id": f"il_{next(_numbers)}",
        "object": "line_item",
        "amount": amount,
        "quantity": 1,
        "parent": {
            "type": "subscription_item_details",
            "subscription_item_details": {"proration": proration},
        },
        "pricing": {"type": "price_details", "price_details": {"price": price}},
        **changes,
    }


def invoice(
    word: str = "paid", *lines: dict[str, Any], more: bool = False, **changes: Any
) -> bytes:
    """Return an event of `in_1`, which cost 20.00 and brings 250 credits unless lines say."""
    subscription = changes.pop("subscription_metadata", {})
    fields = {
        "id": "in_1",
        "object": "invoice",
        "customer": "cus_1",
        "amount_paid": 2000,
        "total": 2000,
        "currency": "usd",
        "metadata": ACME if lines else {**ACME, "prepaid_credits": "250"},
        "parent": {
            "subscription_details": {"subscription": "sub_1", "metadata": subscription},
        },
        "lines": {"data": list(lines), "has_more": more},
        "status_transitions": {"paid_at": int(time.time())},
        **changes,
    }
    return event(f"invoice_{next(_numbers):06}", f"invoice.{word}", fields)


def reversal(name: str = "1", event_type: str = "charge.refunded") -> bytes:
    """Return an event after which the level of `pi_<name>` may be another."""
    fields = {"id": f"ch_{name}", "payment_intent": f"pi_{name}"}
    return event(f"reversal_{next(_numbers):06}", event_type, fields)


async def apply(pool: Pool, drainer: Drainer, *bodies: bytes) -> list[str]:
    await receive(pool, *bodies)
    await drainer.drain()
    return list((await event_states(pool)).values())


async def reasons(pool: Pool) -> str:
    rows = await pool.fetch("SELECT reason FROM stripe_events WHERE reason IS NOT NULL")
    return " ".join(row["reason"] for row in rows)
