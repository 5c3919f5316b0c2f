"""Buying credits on Stripe's Checkout page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import stripe

from shared.errors import StripeFailedError
from shared.organizations.model import Organization
from shared.payments import store
from shared.payments.objects import ORGANIZATION_METADATA, PURCHASE_METADATA

if TYPE_CHECKING:
    from shared.db.pool import Pool


@dataclass(frozen=True, slots=True)
class Checkout:
    """A page on which the buyer pays. Credits come with the webhook, not with the redirect."""

    id: str
    url: str


async def open_checkout(
    pool: Pool,
    client: stripe.StripeClient,
    organization: Organization,
    *,
    purchase_id: UUID,
    amount_minor: int,
    success_url: str,
    cancel_url: str,
) -> Checkout:
    """Open a Checkout Session for an amount in the organization's currency, in minor units.

    The purchase is recorded before Stripe is asked, and its id is the idempotency key: asked again
    after a lost answer, Stripe gives the same session. Raises StripeFailedError.
    Source: https://docs.stripe.com/api/checkout/sessions/create
    """
    async with pool.acquire() as connection:
        await store.open_purchase(
            connection,
            purchase_id,
            organization.id,
            amount_minor=amount_minor,
            currency=organization.currency,
        )
    params = _session(organization, purchase_id, amount_minor, success_url, cancel_url)
    try:
        session = await client.v1.checkout.sessions.create_async(
            params, {"idempotency_key": f"purchase:{purchase_id}"}
        )
    except stripe.StripeError as error:
        raise StripeFailedError(f"Stripe did not open a checkout: {error.user_message}") from error
    async with pool.acquire() as connection:
        await store.keep_session(connection, purchase_id, session.id)
    return Checkout(session.id, session.url or "")


def _session(
    organization: Organization,
    purchase_id: UUID,
    amount_minor: int,
    success_url: str,
    cancel_url: str,
) -> Any:
    metadata = {
        ORGANIZATION_METADATA: str(organization.id),
        PURCHASE_METADATA: str(purchase_id),
    }
    buyer: dict[str, Any] = (
        {"customer": organization.stripe_customer_id}
        if organization.stripe_customer_id
        else {"customer_creation": "always"}
    )
    return {
        "mode": "payment",
        "line_items": [
            {
                "quantity": 1,
                "price_data": {
                    "currency": organization.currency,
                    "unit_amount": amount_minor,
                    "product_data": {"name": "Prepaid credits"},
                },
            }
        ],
        "client_reference_id": str(organization.id),
        "metadata": metadata,
        # The payment's own events must say whose it is, since they may come before the session's.
        # The card is kept, so that a recharge can charge it; Stripe tells the buyer so.
        "payment_intent_data": {"metadata": metadata, "setup_future_usage": "off_session"},
        "success_url": success_url,
        "cancel_url": cancel_url,
        **buyer,
    }
