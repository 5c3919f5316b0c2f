"""Surface C: buying credits, and keeping a card to buy them with."""

from __future__ import annotations

import enum
from typing import Annotated
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from api import fields
from api.fields import Name, Number, Request, Shown
from api.operation import Call, Operation, Reply, Retry
from api.operations import auto_recharge
from api.operations.auto_recharge import AttemptShown
from shared.access.model import Scope
from shared.errors import (
    ConflictError,
    MethodDeclinedError,
    MethodUndescribedError,
    NoPaymentMethodError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    StripeFailedError,
    ValidationError,
)
from shared.events.completion import complete_purchase
from shared.events.describing import describe_on_file
from shared.events.model import ApplyContext
from shared.http.envelope import envelope
from shared.ids import transaction_public_id
from shared.organizations.model import Organization
from shared.payments.checkout import Page, open_checkout, open_setup
from shared.payments.lookup import StripeLookup
from shared.payments.model import PurchasePrice, SaleTerms
from shared.payments.portal import open_portal
from shared.payments.prices import purchase_price
from shared.recharge.model import FINAL_STATES, REFUSED, STRIPE_ERROR, AttemptState
from shared.recharge.rules import ChargeAmount
from shared.recharge.top_ups.daily import DailyLimits
from shared.recharge.top_ups.service import ToppedUp, top_up

URL_LENGTH_MAX = 2_000
STRIPE_SECONDS_MAX = 35.0
# The reason of an attempt whose customer or payment method Stripe does not have.
MISSING = "resource_missing"
Url = Annotated[
    str,
    msgspec.Meta(
        max_length=URL_LENGTH_MAX, extra_json_schema={"format": "uri"}, description="http(s)://…"
    ),
]


class CheckoutRequest(Request, kw_only=True):
    """Credits to buy; the price is the server's. Where the browser goes afterwards."""

    organization_id: str | None = None
    amount: Number
    success_url: Url
    cancel_url: Url


class PortalRequest(Request, kw_only=True):
    """Whose portal, and where the browser goes afterwards."""

    organization_id: str | None = None
    return_url: Url


class SetupRequest(Request):
    """Where the browser goes afterwards."""

    success_url: Url
    cancel_url: Url


class TopUpRequest(Request):
    """Credits to buy with the card on file."""

    amount: Number


class CompleteRequest(Request):
    """Which checkout; the newest open one unless said."""

    checkout_id: Name | None = None


class PageShown(Shown):
    """A page of Stripe's, to send the browser to."""

    id: str
    url: str


class CompletedShown(Shown):
    """The purchase that was paid, and the row of the ledger that credited it."""

    purchase_id: UUID
    checkout_id: str | None
    payment_intent_id: str
    transaction_id: str
    amount: Number
    balance_after: Number


class NextStep(enum.StrEnum):
    """What a customer can do about a payment that did not go through."""

    ADD_PAYMENT_METHOD = "add_payment_method"
    UPDATE_PAYMENT_METHOD = "update_payment_method"
    AUTHENTICATE = "authenticate"


async def checkout(call: Call) -> Reply:
    """Open a Checkout page on which credits are bought.

    The price is made from the amount by the installation's rate and within its limits. Credits come
    when Stripe says that it was paid, not when the browser comes back. The card is kept, so that a
    recharge can charge it.
    """
    body: CheckoutRequest = call.body
    success_url, cancel_url = (
        _url("successUrl", body.success_url),
        _url("cancelUrl", body.cancel_url),
    )
    price = _price(call, call.owner, body.amount)
    page = await open_checkout(
        call.api.pool,
        call.api.stripe,
        call.owner,
        purchase_id=call.id,
        price=PurchasePrice(
            price.amount_minor,
            call.owner.currency,
            price.credits,
            call.api.settings.credits_per_unit,
        ),
        success_url=success_url,
        cancel_url=cancel_url,
    )
    call.api.organizations.forget(call.owner)
    return _shown(page)


async def portal(call: Call) -> Reply:
    """Open Stripe's Billing Portal, where a customer keeps cards and sees invoices.

    An organization that has no Stripe customer yet gets one.
    """
    body: PortalRequest = call.body
    return_url = _url("returnUrl", body.return_url)
    page = await open_portal(call.api.pool, call.api.stripe, call.owner, return_url=return_url)
    call.api.organizations.forget(call.owner)
    return _shown(page)


async def setup(call: Call) -> Reply:
    """Open a Checkout page on which a card is kept and nothing is charged."""
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
    return _shown(page)


async def topped_up(call: Call) -> Reply:
    """Buy credits now with the card on file, while the customer is here.

    The answer is the attempt: `succeeded`, or how far it has come: `processing` for a slow method,
    `charging` or `unknown` where Stripe has not answered yet, which a worker settles. 402 says in
    `nextAction` what the customer can do: add a card, use another, or authenticate at `url` within
    30 minutes. Another top-up replaces one that waits for its customer; 409 while any other charge
    is under way. The same `Idempotency-Key` never charges again: it is told
    how the attempt stands, until that is final. After a decline, try again with another key; a
    method that was declined five times within an hour is not charged again for as long. 429 where
    the daily limit of this organization or this key is reached; `Retry-After` is the next day.
    """
    body: TopUpRequest = call.body
    price = _price(call, call.owner, body.amount)
    try:
        done = await _top_up(call, price)
    except NoPaymentMethodError as error:
        raise _to_do(error, NextStep.ADD_PAYMENT_METHOD) from None
    except MethodDeclinedError as error:
        raise _to_do(error, NextStep.UPDATE_PAYMENT_METHOD) from None
    state = AttemptState(done.attempt["state"])
    if done.attempt["reason"] == MISSING:  # the customer or the card, and it is forgotten by now
        call.api.organizations.forget(call.owner)
        raise _to_do(NoPaymentMethodError(), NextStep.ADD_PAYMENT_METHOD)
    if done.attempt["reason"] in {REFUSED, STRIPE_ERROR}:
        raise StripeFailedError(f"Stripe refused the charge: {done.attempt['detail']}")
    refused = _refusal(done)
    if refused is not None:  # it is an answer like any other: the attempt was made, and stays
        return Reply(envelope(refused), refused.status, final=state in FINAL_STATES)
    return Reply(auto_recharge.shown(done.attempt), final=state in FINAL_STATES)


async def _top_up(call: Call, price: ChargeAmount) -> ToppedUp:
    """Charge what is on file; where Stripe has not described it yet, it is asked first.

    A customer who has just bought may top up before a worker has asked.
    """
    charger, owner, actor = call.api.charger, call.owner, call.actor
    limits = DailyLimits.of(call.api.settings)
    try:
        return await top_up(charger, owner, price, attempt_id=call.id, actor=actor, limits=limits)
    except MethodUndescribedError:
        lookup = StripeLookup(call.api.stripe)
        if not await describe_on_file(call.api.pool, lookup, owner.id, now=charger.now):
            raise
    return await top_up(charger, owner, price, attempt_id=call.id, actor=actor, limits=limits)


def _to_do(error: PaymentRequiredError, step: NextStep) -> PaymentRequiredError:
    return PaymentRequiredError(error.detail, more={"nextAction": {"type": step, "url": None}})


def _refusal(done: ToppedUp) -> PaymentRequiredError | None:
    attempt = done.attempt
    match AttemptState(attempt["state"]):
        case AttemptState.REQUIRES_ACTION:
            step = {"type": NextStep.AUTHENTICATE, "url": done.url}
            detail = "The bank wants the customer to authenticate this payment."
        case AttemptState.FAILED | AttemptState.CANCELED:
            step = {"type": NextStep.UPDATE_PAYMENT_METHOD, "url": None}
            detail = f"The payment did not go through: {attempt['detail'] or attempt['reason']}"
        case _:
            return None
    shown = auto_recharge.shown(attempt)
    return PaymentRequiredError(detail, more={"nextAction": step, "attempt": shown})


async def complete_local(call: Call) -> Reply:
    """Pay an open checkout with Stripe's test card, without a browser. Test keys alone.

    The newest one, unless `checkoutId` names another: name it where a second try must be the same.
    What the payment's webhook would post is posted now, once whichever is first. 403 on a live key.
    """
    if call.api.settings.livemode:
        raise PermissionDeniedError("This is for test keys; a live one takes real money alone.")
    body: CompleteRequest = call.body
    done = await complete_purchase(
        call.api.pool,
        call.api.stripe,
        call.owner,
        session_id=body.checkout_id,
        context=ApplyContext(SaleTerms.of(call.api.settings), call.api.make_id, call.now),
    )
    call.api.organizations.forget(call.owner)
    result = done.result
    assert result.id is not None  # noqa: S101 - it is on the ledger
    assert result.amount is not None and result.balance_after is not None  # noqa: S101, PT018
    return Reply(
        CompletedShown(
            purchase_id=done.purchase_id,
            checkout_id=done.checkout_session_id,
            payment_intent_id=done.payment_intent_id,
            transaction_id=transaction_public_id(result.id),
            amount=fields.shown(result.amount),
            balance_after=fields.shown(result.balance_after),
        )
    )


async def _organization(call: Call) -> Organization:
    """Return the organization of the body, or that of a key that is of one."""
    reference: str | None = call.body.organization_id
    own = call.caller.organization_id
    if reference is None and own is None:
        raise fields.refused(("body", "organizationId"), "is missing")
    return await call.organization_named(reference if reference is not None else str(own))


def _price(call: Call, organization: Organization, amount: msgspec.Raw) -> ChargeAmount:
    settings = call.api.settings
    wanted = fields.number(amount, "body", "amount")
    minor = purchase_price(
        wanted,
        organization.currency,
        settings.credits_per_unit,
        units_min=settings.purchase_min,
        units_max=settings.purchase_max,
    )
    return ChargeAmount(minor, wanted)


def _url(name: str, url: str) -> str:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and url.isprintable()
        _ = parts.port  # raises ValueError where it is no number
    except ValueError:
        good = False
    if not good or " " in url:
        raise fields.refused(("body", name), "an http:// or https:// address is expected")
    return url


def _shown(page: Page) -> Reply:
    return Reply(PageShown(id=page.id, url=page.url))


_TAG = "Purchases (C)"
_BASE = "/v1/billing/{organizationId}"
OPERATIONS = (
    Operation(
        name="createCheckout",
        tag=_TAG,
        method="POST",
        path="/v1/billing/checkout",
        handle=checkout,
        body=CheckoutRequest,
        answer=PageShown,
        scope=Scope.PURCHASES,
        retry=Retry.CARRIED,
        organization_of=_organization,
        refusals=(ValidationError, NotFoundError, StripeFailedError),
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
        answer=PageShown,
        scope=Scope.PURCHASES,
        retry=Retry.CARRIED,
        organization_of=_organization,
        refusals=(ValidationError, NotFoundError, StripeFailedError),
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
        answer=PageShown,
        scope=Scope.PURCHASES,
        retry=Retry.CARRIED,
        refusals=(ValidationError, StripeFailedError),
        seconds_max=STRIPE_SECONDS_MAX,
        cost=10,
        example={
            "successUrl": "https://app.example.com/thanks",
            "cancelUrl": "https://app.example.com/credits",
        },
    ),
    Operation(
        name="topUp",
        tag=_TAG,
        method="POST",
        path=f"{_BASE}/top-up",
        handle=topped_up,
        body=TopUpRequest,
        answer=AttemptShown,
        scope=Scope.PURCHASES,
        retry=Retry.CARRIED,
        refusals=(ValidationError, PaymentRequiredError, ConflictError, StripeFailedError),
        seconds_max=STRIPE_SECONDS_MAX,
        cost=10,
        example={"amount": 25},
    ),
    Operation(
        name="completeLocal",
        tag=_TAG,
        method="POST",
        path=f"{_BASE}/dev/complete-local",
        handle=complete_local,
        body=CompleteRequest,
        answer=CompletedShown,
        scope=Scope.PURCHASES,
        retry=Retry.CARRIED,
        refusals=(NotFoundError, PermissionDeniedError, StripeFailedError),
        seconds_max=STRIPE_SECONDS_MAX,
        cost=10,
        example={},
    ),
)
