"""The pages of Stripe for the receipt of a payment or for a paid invoice."""

from __future__ import annotations

from typing import Any

from shared.payments.library import stripe
from shared.payments.stripe_requests import account_options, ask


async def receipt_url(
    client: stripe.StripeClient, payment_intent_id: str, account: str
) -> str | None:
    """Return the hosted receipt of a payment; None: there is none. Raises StripeFailedError.

    `account` is its Stripe account; empty: the account of the API key.
    Source: https://docs.stripe.com/api/charges/object#charge_object-receipt_url
    """
    intent: Any = await ask(
        "payment_intents.retrieve",
        client.v1.payment_intents.retrieve_async(
            payment_intent_id, {"expand": ["latest_charge"]}, account_options(account)
        ),
    )
    charge = intent.to_dict().get("latest_charge")
    return charge.get("receipt_url") if isinstance(charge, dict) else None


async def invoice_url(client: stripe.StripeClient, invoice_id: str, account: str) -> str | None:
    """Return the hosted page of an invoice; None: there is none. Raises StripeFailedError.

    `account` is its Stripe account; empty: the account of the API key.
    Source: https://docs.stripe.com/api/invoices/object#invoice_object-hosted_invoice_url
    """
    invoice = await ask(
        "invoices.retrieve",
        client.v1.invoices.retrieve_async(invoice_id, {}, account_options(account)),
    )
    return invoice.hosted_invoice_url
