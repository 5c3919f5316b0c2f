"""Buying credits and saving cards on pages that Stripe hosts."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from api.framework import fields
from api.framework.body_organization import body_organization
from api.framework.fields import Number, Request, Response
from api.framework.operation import Call, Operation, Reply, Retry
from shared.access.model import Scope
from shared.errors import (
    ConflictError,
    NotFoundError,
    StripeFailedError,
    ValidationError,
)
from shared.payments.checkout import Page, open_checkout, open_setup
from shared.payments.model import PurchasePrice
from shared.payments.portal import open_portal
from shared.payments.prices import purchase_price

URL_LENGTH_MAX = 2_000
STRIPE_SECONDS_MAX = 35.0
Url = Annotated[
    str,
    msgspec.Meta(
        max_length=URL_LENGTH_MAX, extra_json_schema={"format": "uri"}, description="http(s)://…"
    ),
]


class CheckoutRequest(Request, kw_only=True):
    """The credits to buy, and where the browser returns to. The server sets the price."""

    organization_id: str | None = None
    amount: Number
    success_url: Url
    cancel_url: Url


class PortalRequest(Request, kw_only=True):
    """The organization, and where the browser returns to."""

    organization_id: str | None = None
    return_url: Url


class SetupRequest(Request):
    """Where the browser returns to."""

    success_url: Url
    cancel_url: Url


class StripePageResponse(Response):
    """A page hosted by Stripe. Redirect the browser to `url`."""

    id: str
    url: str


async def checkout(call: Call) -> Reply:
    """Open a Checkout page for buying credits.

    The price follows from the amount and the installation's rate, within its limits. Credits are
    added when Stripe confirms the payment, not when the browser returns. The payment method is
    saved for recharges.
    """
    body: CheckoutRequest = call.body
    success_url, cancel_url = (
        _url("successUrl", body.success_url),
        _url("cancelUrl", body.cancel_url),
    )
    amount_minor, amount = purchase_price_of(call, body.amount)
    page = await open_checkout(
        call.api.pool,
        call.api.stripe,
        call.owner,
        purchase_id=call.id,
        price=PurchasePrice(
            amount_minor,
            call.owner.currency,
            amount,
            call.api.settings.credits_per_unit,
        ),
        success_url=success_url,
        cancel_url=cancel_url,
    )
    call.api.organizations.forget(call.owner)
    return _response(page)


async def portal(call: Call) -> Reply:
    """Open Stripe's Billing Portal, where a customer manages cards and sees invoices.

    Creates a Stripe customer if the organization has none.
    """
    body: PortalRequest = call.body
    return_url = _url("returnUrl", body.return_url)
    page = await open_portal(call.api.pool, call.api.stripe, call.owner, return_url=return_url)
    call.api.organizations.forget(call.owner)
    return _response(page)


async def setup(call: Call) -> Reply:
    """Open a Checkout page that saves a payment method without a charge."""
    body: SetupRequest = call.body
    page = await open_setup(
        call.api.pool,
        call.api.stripe,
        call.owner,
        setup_id=call.id,
        success_url=_url("successUrl", body.success_url),
        cancel_url=_url("cancelUrl", body.cancel_url),
    )
    call.api.organizations.forget(call.owner)
    return _response(page)


def purchase_price_of(call: Call, amount: msgspec.Raw) -> tuple[int, Decimal]:
    """Return the price of the credits in the currency's smallest unit, and the credits.

    Raises ValidationError where the price is not a whole number of units or outside the limits.
    """
    settings = call.api.settings
    wanted = fields.parse_number(amount, "body", "amount")
    amount_minor = purchase_price(
        wanted,
        call.owner.currency,
        settings.credits_per_unit,
        units_min=settings.purchase_min,
        units_max=settings.purchase_max,
    )
    return amount_minor, wanted


def _url(name: str, url: str) -> str:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and url.isprintable()
        _ = parts.port  # raises ValueError if it is not a number
    except ValueError:
        good = False
    if not good or " " in url:
        raise fields.invalid(("body", name), "an http:// or https:// address is expected")
    return url


def _response(page: Page) -> Reply:
    return Reply(StripePageResponse(id=page.id, url=page.url))


_TAG = "Purchases"
_BASE = "/v1/billing/{organizationId}"
OPERATIONS = (
    Operation(
        name="createCheckout",
        tag=_TAG,
        method="POST",
        path="/v1/billing/checkout",
        handle=checkout,
        body=CheckoutRequest,
        response=StripePageResponse,
        scope=Scope.PURCHASES,
        retry=Retry.RESUMED,
        organization_of=body_organization,
        errors=(ValidationError, NotFoundError, ConflictError, StripeFailedError),
        seconds_max=STRIPE_SECONDS_MAX,
        cost=10,
        example={
            "organizationId": "acme",
            "amount": 25,
            "successUrl": "https://app.example.com/thanks",
            "cancelUrl": "https://app.example.com/credits",
        },
    ),
    Operation(
        name="createPortalSession",
        tag=_TAG,
        method="POST",
        path="/v1/billing/portal",
        handle=portal,
        body=PortalRequest,
        response=StripePageResponse,
        scope=Scope.PURCHASES,
        retry=Retry.RESUMED,
        organization_of=body_organization,
        errors=(ValidationError, NotFoundError, StripeFailedError),
        seconds_max=STRIPE_SECONDS_MAX,
        cost=10,
        example={"organizationId": "acme", "returnUrl": "https://app.example.com/credits"},
    ),
    Operation(
        name="setUpPaymentMethod",
        tag=_TAG,
        method="POST",
        path=f"{_BASE}/payment-methods/setup",
        handle=setup,
        body=SetupRequest,
        response=StripePageResponse,
        scope=Scope.PURCHASES,
        retry=Retry.RESUMED,
        errors=(ValidationError, ConflictError, StripeFailedError),
        seconds_max=STRIPE_SECONDS_MAX,
        cost=10,
        example={
            "successUrl": "https://app.example.com/thanks",
            "cancelUrl": "https://app.example.com/credits",
        },
    ),
)
