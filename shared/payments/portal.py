"""Stripe's customer portal: customers manage their cards, invoices and subscriptions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.organizations.model import Organization
from shared.payments.checkout import Page
from shared.payments.customers import with_customer
from shared.payments.library import stripe
from shared.payments.stripe_requests import account_options, ask

if TYPE_CHECKING:
    from shared.db.pool import Connections


async def open_portal(
    pool: Connections, client: stripe.StripeClient, organization: Organization, *, return_url: str
) -> Page:
    """Open a session of the portal, which lasts some minutes. Raises StripeFailedError.

    Source: https://docs.stripe.com/api/customer_portal/sessions/create
    """

    async def create(customer_id: str) -> Page:
        session = await ask(
            "billing_portal.sessions.create",
            client.v1.billing_portal.sessions.create_async(
                {"customer": customer_id, "return_url": return_url},
                account_options(organization.stripe_account),
            ),
        )
        return Page(session.id, session.url)

    return await with_customer(pool, client, organization, create)
