"""Charging a saved payment method without the customer: the four requests about one PaymentIntent.

The PaymentIntent is created unconfirmed and confirmed in a request of its own, so that its id is
kept before any money can move. It captures at most once, whatever is asked of it how often; what
became of it can always be asked. Source: https://docs.stripe.com/payments/paymentintents/lifecycle
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import aiohttp
import stripe

from shared import metrics
from shared.payments.objects import ATTEMPT_METADATA, ORGANIZATION_METADATA, TRIGGER_METADATA


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What is to be charged: `amount_minor` in the currency's smallest unit."""

    attempt_id: UUID
    organization_id: UUID
    trigger: str
    amount_minor: int
    currency: str
    customer_id: str
    payment_method_id: str
    payment_method_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A PaymentIntent as Stripe says it is. The error is that of its last try, if one failed."""

    id: str
    status: str
    amount_minor: int
    amount_received_minor: int
    currency: str
    client_secret: str | None
    charge_id: str | None
    error_code: str | None = None
    decline_code: str | None = None
    network_advice: str | None = None
    error_message: str | None = None
    redirect_url: str | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """No answer, or one that does not say: it may have happened. Ask Stripe first."""

    detail: str


@dataclass(frozen=True, slots=True)
class NotNow:
    """Stripe did nothing, and asks to come back later: 429, or it could not be reached."""

    detail: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Stripe did nothing, and never will, however often it is asked: a mistake, or a setting."""

    detail: str
    code: str | None


Answer = Intent | Unknown | NotNow | Refused


class Charges:
    """Stripe's side of a recharge attempt. Raises nothing: every failure is an answer."""

    def __init__(self, client: stripe.StripeClient) -> None:
        self._intents = client.v1.payment_intents

    async def create(self, charge: Charge, *, key: str) -> Answer:
        """Create the PaymentIntent, unconfirmed: nothing is charged yet."""
        params: Any = {
            "amount": charge.amount_minor,
            "currency": charge.currency,
            "customer": charge.customer_id,
            "payment_method": charge.payment_method_id,
            "allowed_payment_method_types": [charge.payment_method_type],
            "description": "Credit recharge",
            "metadata": {
                ORGANIZATION_METADATA: str(charge.organization_id),
                ATTEMPT_METADATA: str(charge.attempt_id),
                TRIGGER_METADATA: charge.trigger,
            },
        }
        return await _answer(
            "payment_intents.create",
            lambda: self._intents.create_async(params, {"idempotency_key": key}),
        )

    async def confirm(self, intent_id: str, *, key: str) -> Answer:
        """Charge the saved payment method while the customer is away."""
        return await _answer(
            "payment_intents.confirm",
            lambda: self._intents.confirm_async(
                intent_id, {"off_session": True}, {"idempotency_key": key}
            ),
        )

    async def confirm_with_customer(
        self, intent_id: str, payment_method_id: str, *, return_url: str
    ) -> Answer:
        """Charge it while the customer is here: they are sent to authenticate, and come back."""
        return await _answer(
            "payment_intents.confirm",
            lambda: self._intents.confirm_async(
                intent_id, {"payment_method": payment_method_id, "return_url": return_url}
            ),
        )

    async def retrieve(self, intent_id: str) -> Answer:
        """Ask what became of it."""
        return await _answer(
            "payment_intents.retrieve", lambda: self._intents.retrieve_async(intent_id)
        )

    async def cancel(self, intent_id: str) -> Answer:
        """Make sure that it never charges: Stripe refuses where it has already, or may still."""
        return await _answer(
            "payment_intents.cancel", lambda: self._intents.cancel_async(intent_id)
        )


async def _answer(method: str, ask: Callable[[], Awaitable[stripe.PaymentIntent]]) -> Answer:
    answer = await _asked(ask)
    status = answer.status if isinstance(answer, Intent) else type(answer).__name__.lower()
    metrics.STRIPE_REQUESTS.labels(method, status).inc()
    return answer


async def _asked(ask: Callable[[], Awaitable[stripe.PaymentIntent]]) -> Answer:
    try:
        return _intent((await ask()).to_dict())
    except stripe.StripeError as error:
        return _failure(error)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        # stripe lets these pass where the body is cut or late.
        return Unknown(repr(error))


def _failure(error: stripe.StripeError) -> Answer:
    if isinstance(error, stripe.CardError):
        body: Any = error.json_body or {}
        declined = body.get("error", {}).get("payment_intent")
        return _intent(declined) if declined else Unknown(_words(error))
    if isinstance(error, stripe.RateLimitError):
        return NotNow(_words(error))
    if isinstance(error, _REFUSALS):
        # A conflict is about a request that runs right now, or about the state that it left.
        if error.http_status == _CONFLICT or error.code in _STATE_MOVED_ON:
            return Unknown(_words(error))
        return Refused(_words(error), error.code)
    return Unknown(_words(error))


_REFUSALS = (stripe.InvalidRequestError, stripe.AuthenticationError, stripe.PermissionError)
_CONFLICT = 409
_STATE_MOVED_ON = frozenset({"payment_intent_unexpected_state", "lock_timeout"})


def _words(error: stripe.StripeError) -> str:
    return str(error.user_message or error).partition("\n")[0][:500] or type(error).__name__


def _intent(found: Any) -> Intent:
    error = found.get("last_payment_error") or {}
    action = found.get("next_action") or {}
    charge = found.get("latest_charge")
    return Intent(
        id=found["id"],
        status=found["status"],
        amount_minor=found["amount"],
        amount_received_minor=found.get("amount_received") or 0,
        currency=found["currency"],
        client_secret=found.get("client_secret"),
        charge_id=charge if isinstance(charge, str) or charge is None else charge["id"],
        error_code=error.get("code"),
        decline_code=error.get("decline_code"),
        network_advice=error.get("advice_code") or error.get("network_advice_code"),
        error_message=error.get("message"),
        redirect_url=(action.get("redirect_to_url") or {}).get("url"),
    )
