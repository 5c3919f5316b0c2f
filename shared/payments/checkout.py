"""Checkout Sessions: to buy credits, and to save a card without a purchase."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog

from shared.errors import ConflictError, StripeFailedError, StripeRefusedError
from shared.organizations import service as organizations
from shared.organizations.model import Organization
from shared.payments import store
from shared.payments.customers import with_customer
from shared.payments.library import stripe
from shared.payments.model import PurchasePrice
from shared.payments.objects import ORGANIZATION_METADATA, PURCHASE_METADATA, PaymentIntent
from shared.payments.stripe_requests import account_options, ask, hourly
from shared.payments.translator import from_answer

if TYPE_CHECKING:
    from shared.db.pool import Connections

log = structlog.get_logger()

TEST_CARD = "pm_card_visa"


@dataclass(frozen=True, slots=True)
class Page:
    """A page hosted by Stripe. Its outcome arrives by webhook, not with the redirect."""

    id: str
    url: str


async def open_checkout(
    pool: Connections,
    client: stripe.StripeClient,
    organization: Organization,
    *,
    purchase_id: UUID,
    price: PurchasePrice,
    success_url: str,
    cancel_url: str,
) -> Page:
    """Open a Checkout Session at a price in the organization's currency.

    The purchase is recorded, with what it sells, before Stripe is called, and its id is the
    idempotency key for an hour: a retry after a lost response returns the same session, and later
    another one. The URL of a lost session is known to nobody; when that session expires, the
    purchase may be `expired` until the other one is paid. If Stripe refuses, the purchase is
    closed. Raises StripeFailedError, ConflictError for a purchase that has been paid, and
    OrganizationClosedError.
    Source: https://docs.stripe.com/api/checkout/sessions/create
    """
    async with pool.acquire() as connection, connection.transaction():
        await organizations.lock_open(connection, organization.id)
        opened = await store.open_purchase(connection, purchase_id, organization.id, price)
    if opened is None:
        raise ConflictError("This purchase has been paid.")
    # Reopened after a refusal, a purchase needs another key: Stripe repeats the refusal.
    key = f"purchase:{purchase_id}:{opened['closes_at'].timestamp()}"

    async def create(customer_id: str | None) -> Page:
        params = _payment(organization, purchase_id, opened["amount_minor"], customer_id)
        return await _open(
            client, organization, params, success_url, cancel_url, key=f"{key}:{customer_id}"
        )

    try:
        if organization.stripe_customer_id is None:
            page = await create(None)
        else:
            page = await with_customer(pool, client, organization, create)
    except StripeRefusedError:
        async with pool.acquire() as connection:
            await store.refuse_purchase(connection, purchase_id)
        raise
    async with pool.acquire() as connection:
        await store.keep_session(connection, purchase_id, page.id)
    return page


async def open_setup(
    pool: Connections,
    client: stripe.StripeClient,
    organization: Organization,
    *,
    setup_id: UUID,
    success_url: str,
    cancel_url: str,
) -> Page:
    """Open a Checkout Session that saves a card for later charges and charges nothing.

    Raises StripeFailedError and OrganizationClosedError.
    Source: https://docs.stripe.com/payments/save-and-reuse
    """
    async with pool.acquire() as connection:
        await organizations.check_open(connection, organization.id)
    metadata = {ORGANIZATION_METADATA: str(organization.id)}

    async def create(customer_id: str) -> Page:
        params: dict[str, Any] = {
            "mode": "setup",
            "currency": organization.currency,
            "customer": customer_id,
            "client_reference_id": str(organization.id),
            "metadata": metadata,
            "setup_intent_data": {"metadata": metadata},
        }
        key = f"setup:{setup_id}:{customer_id}"
        return await _open(client, organization, params, success_url, cancel_url, key=key)

    return await with_customer(pool, client, organization, create)


async def _open(
    client: stripe.StripeClient,
    organization: Organization,
    params: dict[str, Any],
    success_url: str,
    cancel_url: str,
    *,
    key: str,
) -> Page:
    session_params: Any = params | {"success_url": success_url, "cancel_url": cancel_url}
    session = await ask(
        "checkout.sessions.create",
        client.v1.checkout.sessions.create_async(
            session_params, account_options(organization.stripe_account, key=hourly(key))
        ),
    )
    return Page(session.id, session.url or "")


def _payment(
    organization: Organization, purchase_id: UUID, amount_minor: int, customer_id: str | None
) -> dict[str, Any]:
    metadata = _metadata(organization, purchase_id)
    buyer: dict[str, Any] = (
        {"customer": customer_id} if customer_id else {"customer_creation": "always"}
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
        # The PaymentIntent names the organization too: its events may precede the session's.
        # The card is saved for recharges; Stripe's page informs the buyer.
        "payment_intent_data": {"metadata": metadata, "setup_future_usage": "off_session"},
        **buyer,
    }


def _metadata(organization: Organization, purchase_id: UUID) -> dict[str, str]:
    return {
        ORGANIZATION_METADATA: str(organization.id),
        PURCHASE_METADATA: str(purchase_id),
    }


@dataclass(frozen=True, slots=True)
class OpenPurchase:
    """An unpaid purchase. The amount is in minor units."""

    purchase_id: UUID
    session_id: str | None
    amount_minor: int
    currency: str


async def pay_with_test_card(
    pool: Connections,
    client: stripe.StripeClient,
    organization: Organization,
    payment: OpenPurchase,
) -> PaymentIntent:
    """Pay a purchase in Stripe's test mode, as its Checkout page would; expire the session.

    Idempotent: a repeated call returns the same payment. Raises StripeFailedError.
    Source: https://docs.stripe.com/testing#cards
    """

    async def create(customer_id: str) -> stripe.PaymentIntent:
        params: Any = {
            "amount": payment.amount_minor,
            "currency": payment.currency,
            "customer": customer_id,
            "payment_method": TEST_CARD,
            "allowed_payment_method_types": ["card"],
            "setup_future_usage": "off_session",
            "confirm": True,
            "description": "Credits, paid with a test card",
            "metadata": _metadata(organization, payment.purchase_id),
        }
        # Not an hourly key: it would pay twice. After a 500 it is stuck for a day, in test mode.
        key = f"complete-local:{payment.purchase_id}:{customer_id}"
        return await ask(
            "payment_intents.create",
            client.v1.payment_intents.create_async(
                params, account_options(organization.stripe_account, key=key)
            ),
        )

    paid = await with_customer(pool, client, organization, create)
    if payment.session_id is not None:
        await _close(client, organization, payment.session_id)
    return from_answer(paid.to_dict(), PaymentIntent)


async def _close(client: stripe.StripeClient, organization: Organization, session_id: str) -> None:
    try:
        await ask(
            "checkout.sessions.expire",
            client.v1.checkout.sessions.expire_async(
                session_id, options=account_options(organization.stripe_account)
            ),
        )
    except StripeFailedError as error:  # the session is paid or expired already
        log.info("checkout.not_closed", session_id=session_id, detail=error.detail)
