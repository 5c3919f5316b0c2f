"""The Stripe customer of an organization."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import stripe

from shared.organizations import service as organizations
from shared.organizations import store
from shared.organizations.model import Organization
from shared.payments.asking import ask, hourly
from shared.payments.objects import ORGANIZATION_METADATA

if TYPE_CHECKING:
    from shared.db.pool import Pool


async def ensure_customer(
    pool: Pool,
    client: stripe.StripeClient,
    organization: Organization,
    *,
    now: datetime | None = None,
) -> str:
    """Return the organization's Stripe customer, created now where it has none.

    Two that ask at once get the same one: the idempotency key is the organization's, for an hour.
    Where an answer is lost and asked for again later, Stripe has a second customer, who has paid
    for nothing; the first that is kept here stays. Raises StripeFailedError. Source: https://docs.stripe.com/api/customers/create
    """
    if organization.stripe_customer_id is not None:
        return organization.stripe_customer_id
    params: Any = {
        "name": organization.name,
        "metadata": {ORGANIZATION_METADATA: str(organization.id)},
    }
    if organization.email is not None:
        params["email"] = organization.email
    key = f"customer:{organization.id}:{organization.updated_at.isoformat()}"
    customer = await ask(
        "customers.create",
        client.v1.customers.create_async(params, {"idempotency_key": hourly(key, now)}),
    )
    async with pool.acquire() as connection, connection.transaction():
        await store.keep_customers(connection, {organization.id: customer.id})
        kept = await organizations.find(connection, str(organization.id))
    return kept.stripe_customer_id or customer.id
