"""Reading a Stripe object by its type and id, whatever it is."""

from __future__ import annotations

from typing import Any

import msgspec

from shared.errors import EventError
from shared.payments.library import stripe
from shared.payments.pages import StripePages

# Source: https://docs.stripe.com/api, the path below /v1 under each object's "Retrieve".
OBJECT_PATHS = {
    "charge": "charges",
    "checkout.session": "checkout/sessions",
    "customer": "customers",
    "dispute": "disputes",
    "invoice": "invoices",
    "invoice_payment": "invoice_payments",
    "mandate": "mandates",
    "payment_intent": "payment_intents",
    "payment_method": "payment_methods",
    "radar.early_fraud_warning": "radar/early_fraud_warnings",
    "refund": "refunds",
    "setup_intent": "setup_intents",
    "subscription": "subscriptions",
}
EVENT_PATH = "events"


class UnknownObjectError(EventError):
    """Stripe's objects of this type cannot be read by their id here."""


async def retrieve(
    client: stripe.StripeClient, object_type: str, object_id: str, account: str
) -> dict[str, Any]:
    """Return an object as Stripe has it today: one GET.

    Raises UnknownObjectError for a type that is not in OBJECT_PATHS, and what `ask` raises.
    """
    path = OBJECT_PATHS.get(object_type)
    if path is None:
        raise UnknownObjectError(f"A {object_type} cannot be read from Stripe by its id.")
    return await _read(client, path, object_id, account)


async def retrieve_event(
    client: stripe.StripeClient, event_id: str, account: str
) -> dict[str, Any]:
    """Return an event; StripeMissingError where it is older than Stripe keeps it, 30 days.

    Source: https://docs.stripe.com/api/events
    """
    return await _read(client, EVENT_PATH, event_id, account)


async def _read(
    client: stripe.StripeClient, path: str, object_id: str, account: str
) -> dict[str, Any]:
    text = await StripePages(client).retrieve(path, object_id, account=account)
    found: dict[str, Any] = msgspec.json.decode(text)
    return found
