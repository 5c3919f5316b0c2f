"""PaymentIntents. https://docs.stripe.com/api/payment_intents."""

from collections.abc import Collection
from typing import Final

from sandbox.stripe import (
    attempts,
    charges,
    currencies,
    customers,
    errors,
    events,
    lists,
    objects,
    refunds,
)
from sandbox.stripe import payment_methods as methods
from sandbox.stripe.call import Call
from sandbox.stripe.params import Choice, Kind, Params, Shape, merge_metadata
from sandbox.stripe.store import Json

_USAGE: Final = Choice(("off_session", "on_session"))
_CAPTURE: Final = Choice(("automatic", "automatic_async", "manual"))
_DATA: Final[Shape] = {
    "allowed_payment_method_types": Kind.TEXTS,
    "amount_details": Kind.FREE,
    "capture_method": _CAPTURE,
    "excluded_payment_method_types": Kind.TEXTS,
    "expand": Kind.TEXTS,
    "hooks": Kind.FREE,
    "payment_details": Kind.FREE,
    "payment_method": Kind.TEXT,
    "payment_method_data": methods.DATA,
    "payment_method_options": Kind.FREE,
    "receipt_email": Kind.TEXT,
    "setup_future_usage": _USAGE,
    "shipping": Kind.FREE,
}
_DESCRIBED: Final[Shape] = {
    "amount": Kind.INTEGER,
    "application_fee_amount": Kind.INTEGER,
    "currency": Kind.TEXT,
    "customer": Kind.TEXT,
    "description": Kind.TEXT,
    "metadata": Kind.METADATA,
    "payment_method_configuration": Kind.TEXT,
    "statement_descriptor": Kind.TEXT,
    "statement_descriptor_suffix": Kind.TEXT,
    "transfer_data": Kind.FREE,
    "transfer_group": Kind.TEXT,
}
_CONFIRMING: Final[Shape] = {
    **_DATA,
    "error_on_requires_action": Kind.BOOLEAN,
    "mandate": Kind.TEXT,
    "mandate_data": Kind.FREE,
    "off_session": Kind.BOOLEAN,
    "radar_options": Kind.FREE,
    "return_url": Kind.TEXT,
    "use_stripe_sdk": Kind.BOOLEAN,
}
CONFIRM: Final[Shape] = {**_CONFIRMING, "amount_to_confirm": Kind.INTEGER}
CREATE: Final[Shape] = {
    **_CONFIRMING,
    **_DESCRIBED,
    "automatic_payment_methods": {
        "allow_redirects": Choice(("always", "never")),
        "enabled": Kind.BOOLEAN,
    },
    "confirm": Kind.BOOLEAN,
    "confirmation_method": Choice(("automatic", "manual")),
    "on_behalf_of": Kind.TEXT,
}
UPDATE: Final[Shape] = {**_DATA, **_DESCRIBED}
CANCEL: Final[Shape] = {
    "cancellation_reason": Choice(
        ("abandoned", "duplicate", "fraudulent", "requested_by_customer")
    ),
    "expand": Kind.TEXTS,
}
CAPTURE: Final[Shape] = {
    "amount_to_capture": Kind.INTEGER,
    "expand": Kind.TEXTS,
    "final_capture": Kind.BOOLEAN,
    "metadata": Kind.METADATA,
}
LIST: Final[Shape] = {**lists.SHAPE, "customer": Kind.TEXT}

_CONFIRMABLE: Final = ("requires_payment_method", "requires_confirmation", "requires_action")
_CANCELABLE: Final = (
    "requires_payment_method",
    "requires_capture",
    "requires_confirmation",
    "requires_action",
    "processing",
)
_COPIED: Final = (
    "description",
    "payment_method_options",
    "receipt_email",
    "setup_future_usage",
    "shipping",
    "statement_descriptor",
    "statement_descriptor_suffix",
    "transfer_group",
)


def build(call: Call, amount: int, currency: str, values: Json) -> Json:
    """Keep a new, unconfirmed PaymentIntent and tell."""
    intent_id = call.ids.new("pi")
    intent = objects.new(
        "payment_intent",
        {
            "id": intent_id,
            "amount": amount,
            "capture_method": "automatic_async",
            "client_secret": f"{intent_id}_secret_{call.ids.text(25)}",
            "created": call.now,
            "currency": currency,
            **values,
        },
    )
    call.store.add(intent)
    events.emit(call, "payment_intent.created", intent)
    return intent


def create(call: Call, params: Params) -> Json:
    """POST /v1/payment_intents; with `confirm` the card is charged at once."""
    currency = currencies.check_currency(params["currency"])
    amount = currencies.check_amount(params["amount"], currency)
    confirm = params.get("confirm", False)
    if not confirm:
        _needs_confirm(params, "off_session", "error_on_requires_action", "return_url")
    customer = params.get("customer")
    if customer is not None:
        customers.load(call, customer)
    method = _method(call, params, customer)
    values = _changes(params)
    values |= {
        "automatic_payment_methods": _automatic(params),
        "capture_method": params.get("capture_method", "automatic_async"),
        "confirmation_method": params.get("confirmation_method", "automatic"),
        "customer": customer,
        "metadata": merge_metadata({}, params.get("metadata")),
        "payment_method": method["id"] if method else None,
        "status": "requires_confirmation" if method else "requires_payment_method",
    }
    if confirm:
        _check_return_url(values["automatic_payment_methods"], params)
    intent = build(call, amount, currency, values)
    return _confirm(call, intent, method, params) if confirm else intent


def confirm(call: Call, params: Params, intent_id: str) -> Json:
    """POST /v1/payment_intents/{id}/confirm."""
    intent = _load(call, intent_id)
    if intent["status"] == "succeeded":
        raise _unexpected(
            intent,
            "You cannot confirm this PaymentIntent because it has already succeeded after being "
            "previously confirmed.",
        )
    _check_status(intent, "confirm", "confirmed", _CONFIRMABLE)
    method = _method(call, params, intent["customer"])
    if method is None and intent["payment_method"] is not None:
        method = methods.resolve(call, intent["payment_method"], customer_id=intent["customer"])
    _check_return_url(intent["automatic_payment_methods"], params)
    intent |= {n: params[n] for n in ("receipt_email", "setup_future_usage") if n in params}
    return _confirm(call, intent, method, params)


def retrieve(call: Call, _params: Params, intent_id: str) -> Json:
    """GET /v1/payment_intents/{id}."""
    return _load(call, intent_id)


def update(call: Call, params: Params, intent_id: str) -> Json:
    """POST /v1/payment_intents/{id}; once succeeded or canceled only metadata and texts change."""
    intent = _load(call, intent_id)
    frozen = {"amount", "currency", "customer", "payment_method", "payment_method_data"}
    if frozen & params.keys():
        _check_status(intent, "update", "updated", _CANCELABLE)
    if "customer" in params:
        customers.load(call, params["customer"])
        intent["customer"] = params["customer"]
    if "currency" in params:
        intent["currency"] = currencies.check_currency(params["currency"])
    if "amount" in params:
        intent["amount"] = currencies.check_amount(params["amount"], intent["currency"])
    method = _method(call, params, intent["customer"])
    if method is not None:
        intent |= {"payment_method": method["id"], "status": "requires_confirmation"}
    intent |= _changes(params)
    if "metadata" in params:
        intent["metadata"] = merge_metadata(intent["metadata"], params["metadata"])
    return call.store.save(intent)


def cancel(call: Call, params: Params, intent_id: str) -> Json:
    """POST /v1/payment_intents/{id}/cancel."""
    intent = _load(call, intent_id)
    _check_status(intent, "cancel", "canceled", _CANCELABLE)
    intent |= {
        "amount_capturable": 0,
        "canceled_at": call.now,
        "cancellation_reason": params.get("cancellation_reason"),
        "next_action": None,
        "status": "canceled",
    }
    call.store.save(intent)
    events.emit(call, "payment_intent.canceled", intent)
    return intent


def capture(call: Call, params: Params, intent_id: str) -> Json:
    """POST /v1/payment_intents/{id}/capture."""
    intent = _load(call, intent_id)
    _check_status(intent, "capture", "captured", ("requires_capture",))
    capturable: int = intent["amount_capturable"]
    amount: int = params.get("amount_to_capture", capturable)
    if not 1 <= amount <= capturable:
        raise errors.invalid(
            f"The amount to capture must be between 1 and {capturable}.",
            param="amount_to_capture",
        )
    intent |= {"amount_capturable": 0, "amount_received": amount, "status": "succeeded"}
    charge = call.load("charge", intent["latest_charge"])
    charge |= {"captured": True, "amount_captured": amount}
    if amount < capturable:
        refunds.release(call, charge, capturable - amount)
    call.store.save(charge)
    call.store.save(intent)
    events.emit(call, "charge.captured", charge)
    events.emit(call, "payment_intent.succeeded", intent)
    charges.settle(call, charge["id"])
    return intent


def list_all(call: Call, params: Params) -> Json:
    """GET /v1/payment_intents."""
    equal = lists.filters(params, "customer")
    return lists.page(call, params, "payment_intent", "/v1/payment_intents", equal=equal)


def _load(call: Call, intent_id: str) -> Json:
    return call.load("payment_intent", intent_id, param="intent")


def _confirm(call: Call, intent: Json, method: Json | None, params: Params) -> Json:
    if method is None:
        raise _unexpected(
            intent,
            "You cannot confirm this PaymentIntent because it's missing a payment method. You can "
            "either update the PaymentIntent with a payment method and then confirm it again, or "
            "confirm it again directly with a payment method or ConfirmationToken.",
        )
    if "return_url" in params:
        call.store.hide(intent["id"], return_url=params["return_url"])
    circumstances = attempts.Circumstances(
        off_session=params.get("off_session", False),
        refuse_challenge=params.get("error_on_requires_action", False),
    )
    intent = attempts.attempt(call, intent, method, circumstances)
    attempts.finish(call, intent)
    return intent


def _method(call: Call, params: Params, customer: str | None) -> Json | None:
    if "payment_method" in params:
        return methods.resolve(call, params["payment_method"], customer_id=customer)
    if "payment_method_data" in params:
        return methods.from_data(call, params["payment_method_data"])
    return None


def _changes(params: Params) -> Json:
    return {name: params[name] or None for name in _COPIED if name in params}


def _automatic(params: Params) -> Json | None:
    if "allowed_payment_method_types" in params:
        return None
    fields = params.get("automatic_payment_methods", {})
    if not fields.get("enabled", True):
        return None
    return {"allow_redirects": fields.get("allow_redirects", "always"), "enabled": True}


def _check_return_url(automatic: Json | None, params: Params) -> None:
    # A cardholder who is not there cannot be redirected, so off-session needs no address.
    if automatic is None or automatic["allow_redirects"] == "never":
        return
    if "return_url" in params or params.get("off_session"):
        return
    raise errors.invalid(
        "This PaymentIntent is configured to accept payment methods enabled in your Dashboard. "
        "Because some of these payment methods might redirect your customer off of your page, you "
        "must provide a `return_url`. If you don't want to accept redirect-based payment methods, "
        "set `automatic_payment_methods[enabled]` to `true` and "
        "`automatic_payment_methods[allow_redirects]` to `never` when creating Setup Intents and "
        "Payment Intents."
    )


def _needs_confirm(params: Params, *names: str) -> None:
    for name in names:
        if params.get(name):
            raise errors.invalid(f"You can only set `{name}` with `confirm=true`.", param=name)


def _check_status(intent: Json, verb: str, done: str, allowed: Collection[str]) -> None:
    if intent["status"] in allowed:
        return
    raise _unexpected(
        intent,
        f"You cannot {verb} this PaymentIntent because it has a status of {intent['status']}. Only "
        f"a PaymentIntent with one of the following statuses may be {done}: {', '.join(allowed)}.",
    )


def _unexpected(intent: Json, message: str) -> errors.ApiError:
    error = errors.invalid(message, code="payment_intent_unexpected_state")
    error.extra["payment_intent"] = intent
    return error
