"""The Stripe customer of an organization."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import stripe

from shared.inbox import store as inbox
from shared.organizations import service as organizations
from shared.organizations import store
from shared.organizations.model import Organization
from shared.payments.asking import ask, hourly
from shared.payments.objects import ORGANIZATION_METADATA

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool


async def bind_customers(
    connection: Connection, customers: Mapping[UUID, str], *, account: str = ""
) -> None:
    """Remember the Stripe customer of organizations that have none yet.

    `account` is the Stripe account that the customers belong to; empty: the account of our key.
    Events that were ignored because nobody had these customers are applied again.
    """
    await store.keep_customers(connection, dict(customers), account=account)
    await inbox.reopen_waiting(connection, list(customers.values()))


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
        await bind_customers(connection, {organization.id: customer.id})
        kept = await organizations.find(connection, str(organization.id))
    return kept.stripe_customer_id or customer.id
