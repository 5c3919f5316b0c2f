"""Stripe's Checkout pages: buying credits, and keeping a card without buying any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import stripe

from shared.organizations.model import Organization
from shared.payments import store
from shared.payments.asking import ask
from shared.payments.customers import ensure_customer
from shared.payments.objects import ORGANIZATION_METADATA, PURCHASE_METADATA

if TYPE_CHECKING:
    from shared.db.pool import Pool


@dataclass(frozen=True, slots=True)
class Page:
    """A page of Stripe's. What it brings comes with a webhook, not with the redirect."""

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
) -> Page:
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
    params = _payment(organization, purchase_id, amount_minor)
    page = await _open(client, params, success_url, cancel_url, key=f"purchase:{purchase_id}")
    async with pool.acquire() as connection:
        await store.keep_session(connection, purchase_id, page.id)
    return page


async def open_setup(
    pool: Pool,
    client: stripe.StripeClient,
    organization: Organization,
    *,
    setup_id: UUID,
    success_url: str,
    cancel_url: str,
) -> Page:
    """Open a Checkout Session that keeps a card for later charges and charges nothing.

    Raises StripeFailedError. Source: https://docs.stripe.com/payments/save-and-reuse
    """
    metadata = {ORGANIZATION_METADATA: str(organization.id)}
    params: dict[str, Any] = {
        "mode": "setup",
        "currency": organization.currency,
        "customer": await ensure_customer(pool, client, organization),
        "client_reference_id": str(organization.id),
        "metadata": metadata,
        "setup_intent_data": {"metadata": metadata},
    }
    return await _open(client, params, success_url, cancel_url, key=f"setup:{setup_id}")


async def _open(
    client: stripe.StripeClient,
    params: dict[str, Any],
    success_url: str,
    cancel_url: str,
    *,
    key: str,
) -> Page:
    asked: Any = params | {"success_url": success_url, "cancel_url": cancel_url}
    session = await ask(
        "checkout.sessions.create",
        client.v1.checkout.sessions.create_async(asked, {"idempotency_key": key}),
    )
    return Page(session.id, session.url or "")


def _payment(organization: Organization, purchase_id: UUID, amount_minor: int) -> dict[str, Any]:
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
        **buyer,
    }
