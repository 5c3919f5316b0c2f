"""The Stripe customer of an organization."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import structlog

from shared.errors import StripeMissingError
from shared.inbox import store as inbox
from shared.organizations import service as organizations
from shared.organizations import store
from shared.organizations.model import Organization
from shared.payments import store as payments
from shared.payments.library import stripe
from shared.payments.objects import ORGANIZATION_METADATA
from shared.payments.stripe_requests import account_options, ask, hourly

if TYPE_CHECKING:
    from shared.db.pool import Connection, Connections


async def bind_customers(
    connection: Connection, customers: Mapping[UUID, str], *, account: str = ""
) -> None:
    """Store the Stripe customers of organizations that have none yet.

    `account` is the Stripe account of the customers; empty: the account of the API key. Events that
    were ignored because these customers were unknown are reopened.
    """
    await store.set_customers(connection, dict(customers), account=account)
    await inbox.reopen_waiting(connection, list(customers.values()))


T = TypeVar("T")
log = structlog.get_logger()


async def ensure_customer(
    pool: Connections,
    client: stripe.StripeClient,
    organization: Organization,
    *,
    now: datetime | None = None,
) -> str:
    """Return the organization's Stripe customer; create it if there is none.

    Concurrent calls get the same customer: the idempotency key is the organization's, for an hour.
    A retry more than an hour after a lost response creates a second, unused customer at Stripe; the
    first that is stored is used. Raises StripeFailedError.
    Source: https://docs.stripe.com/api/customers/create
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
        client.v1.customers.create_async(
            params, account_options(organization.stripe_account, key=hourly(key, now))
        ),
    )
    async with pool.acquire() as connection, connection.transaction():
        await bind_customers(
            connection, {organization.id: customer.id}, account=organization.stripe_account
        )
        current = await organizations.find(connection, str(organization.id))
    return current.stripe_customer_id or customer.id


async def with_customer(
    pool: Connections,
    client: stripe.StripeClient,
    organization: Organization,
    request: Callable[[str], Awaitable[T]],
) -> T:
    """Make a request with the organization's Stripe customer; create it if there is none.

    If the customer was deleted at Stripe, it is unbound, its payment methods are detached, and the
    request is made once more with a new one. The request's idempotency key must contain its id.
    Raises StripeFailedError.
    """
    customer_id = await ensure_customer(pool, client, organization)
    try:
        return await request(customer_id)
    except StripeMissingError:
        if not await forget_if_gone(pool, client, organization, customer_id):
            raise
    async with pool.acquire() as connection:
        current = await organizations.find(connection, str(organization.id))
    return await request(await ensure_customer(pool, client, current))


async def forget_if_gone(
    pool: Connections, client: stripe.StripeClient, organization: Organization, customer_id: str
) -> bool:
    """Unbind a customer that does not exist at Stripe; return whether it was unbound.

    Its payment methods are detached in the same transaction. Raises StripeFailedError.
    Source: https://docs.stripe.com/api/customers/retrieve
    """
    try:
        customer = await ask(
            "customers.retrieve",
            client.v1.customers.retrieve_async(
                customer_id, options=account_options(organization.stripe_account)
            ),
        )
    except StripeMissingError:
        gone = True
    else:
        gone = bool(customer.to_dict().get("deleted"))
    if gone:
        async with pool.acquire() as connection, connection.transaction():
            await payments.forget_customer(connection, organization.id, customer_id)
        log.warning("customer.gone", organization_id=str(organization.id), customer_id=customer_id)
    return gone
