"""Reading a Stripe object by its type and id, whatever it is."""

from __future__ import annotations

from typing import Any

import msgspec
import stripe

from shared.errors import EventError
from shared.payments.stripe_requests import account_options, ask

# Source: https://docs.stripe.com/api, the path under each object's "Retrieve".
OBJECT_PATHS = {
    "charge": "/v1/charges",
    "checkout.session": "/v1/checkout/sessions",
    "customer": "/v1/customers",
    "dispute": "/v1/disputes",
    "invoice": "/v1/invoices",
    "invoice_payment": "/v1/invoice_payments",
    "mandate": "/v1/mandates",
    "payment_intent": "/v1/payment_intents",
    "payment_method": "/v1/payment_methods",
    "radar.early_fraud_warning": "/v1/radar/early_fraud_warnings",
    "refund": "/v1/refunds",
    "setup_intent": "/v1/setup_intents",
    "subscription": "/v1/subscriptions",
}
EVENT_PATH = "/v1/events"


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
    return await _get(client, f"{path}/{object_id}", object_type, account)


async def retrieve_event(
    client: stripe.StripeClient, event_id: str, account: str
) -> dict[str, Any]:
    """Return an event; StripeMissingError where it is older than Stripe keeps it, 30 days.

    Source: https://docs.stripe.com/api/events
    """
    return await _get(client, f"{EVENT_PATH}/{event_id}", "event", account)


async def _get(client: stripe.StripeClient, path: str, name: str, account: str) -> dict[str, Any]:
    options: Any = account_options(account)
    answer = await ask(f"{name}.retrieve", client.raw_request_async("get", path, **options))
    found: dict[str, Any] = msgspec.json.decode(answer.body)
    return found
