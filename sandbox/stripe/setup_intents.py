"""SetupIntents: saving a card without a payment. https://docs.stripe.com/api/setup_intents."""

from collections.abc import Collection
from typing import Final

from sandbox.stripe import customers, errors, events, lists, objects, setup_attempts
from sandbox.stripe import payment_methods as methods
from sandbox.stripe.call import Call
from sandbox.stripe.params import Choice, Kind, Params, Shape, merge_metadata
from sandbox.stripe.store import Json

CONFIRM: Final[Shape] = {
    "expand": Kind.TEXTS,
    "mandate_data": Kind.FREE,
    "payment_method": Kind.TEXT,
    "payment_method_data": methods.DATA,
    "payment_method_options": Kind.FREE,
    "return_url": Kind.TEXT,
    "use_stripe_sdk": Kind.BOOLEAN,
}
CREATE: Final[Shape] = {
    **CONFIRM,
    "allowed_payment_method_types": Kind.TEXTS,
    "automatic_payment_methods": {
        "allow_redirects": Choice(("always", "never")),
        "enabled": Kind.BOOLEAN,
    },
    "confirm": Kind.BOOLEAN,
    "customer": Kind.TEXT,
    "description": Kind.TEXT,
    "metadata": Kind.METADATA,
    "payment_method_configuration": Kind.TEXT,
    "payment_method_types": Kind.TEXTS,
    "usage": Choice(("off_session", "on_session")),
}
CANCEL: Final[Shape] = {
    "cancellation_reason": Choice(("abandoned", "duplicate", "requested_by_customer")),
    "expand": Kind.TEXTS,
}
LIST: Final[Shape] = {**lists.SHAPE, "customer": Kind.TEXT, "payment_method": Kind.TEXT}
_OPEN: Final = ("requires_payment_method", "requires_confirmation", "requires_action")


def build(call: Call, values: Json) -> Json:
    """Keep a new, unconfirmed SetupIntent and tell."""
    intent_id = call.ids.new("seti")
    intent = objects.new(
        "setup_intent",
        {
            "id": intent_id,
            "client_secret": f"{intent_id}_secret_{call.ids.text(25)}",
            "created": call.now,
            **values,
        },
    )
    call.store.add(intent)
    events.emit(call, "setup_intent.created", intent)
    return intent


def create(call: Call, params: Params) -> Json:
    """POST /v1/setup_intents; with `confirm` the card is set up at once."""
    confirmed = params.get("confirm", False)
    if not confirmed and "return_url" in params:
        raise errors.invalid(
            "You can only set `return_url` with `confirm=true`.", param="return_url"
        )
    customer = params.get("customer")
    if customer is not None:
        customers.load(call, customer)
    method = _method(call, params, customer)
    intent = build(
        call,
        {
            "automatic_payment_methods": params.get("automatic_payment_methods"),
            "customer": customer,
            "description": params.get("description") or None,
            "metadata": merge_metadata({}, params.get("metadata")),
            "payment_method": method["id"] if method else None,
            "status": "requires_confirmation" if method else "requires_payment_method",
            "usage": params.get("usage", "off_session"),
        },
    )
    return _confirm(call, intent, method, params) if confirmed else intent


def confirm(call: Call, params: Params, intent_id: str) -> Json:
    """POST /v1/setup_intents/{id}/confirm."""
    intent = load(call, intent_id)
    _check_status(intent, "confirm", "confirmed")
    method = _method(call, params, intent["customer"])
    if method is None and intent["payment_method"] is not None:
        method = methods.resolve(call, intent["payment_method"], customer_id=intent["customer"])
    return _confirm(call, intent, method, params)


def load(call: Call, intent_id: str) -> Json:
    """Read a SetupIntent, or refuse with 404."""
    return call.load("setup_intent", intent_id, name="setupintent", param="intent")


def retrieve(call: Call, _params: Params, intent_id: str) -> Json:
    """GET /v1/setup_intents/{id}."""
    return load(call, intent_id)


def cancel(call: Call, params: Params, intent_id: str) -> Json:
    """POST /v1/setup_intents/{id}/cancel."""
    intent = load(call, intent_id)
    _check_status(intent, "cancel", "canceled")
    intent |= {
        "cancellation_reason": params.get("cancellation_reason"),
        "next_action": None,
        "status": "canceled",
    }
    call.store.save(intent)
    events.emit(call, "setup_intent.canceled", intent)
    return intent


def list_all(call: Call, params: Params) -> Json:
    """GET /v1/setup_intents."""
    equal = lists.filters(params, "customer", "payment_method")
    return lists.page(call, params, "setup_intent", "/v1/setup_intents", equal=equal)


def _confirm(call: Call, intent: Json, method: Json | None, params: Params) -> Json:
    if method is None:
        raise _unexpected(
            intent,
            "You cannot confirm this SetupIntent because it's missing a payment method. Update the "
            "SetupIntent with a payment method and then confirm it again.",
        )
    if "return_url" in params:
        call.store.hide(intent["id"], return_url=params["return_url"])
    return setup_attempts.attempt(call, intent, method, authenticated=False)


def _method(call: Call, params: Params, customer: str | None) -> Json | None:
    if "payment_method" in params:
        return methods.resolve(call, params["payment_method"], customer_id=customer)
    if "payment_method_data" in params:
        return methods.from_data(call, params["payment_method_data"])
    return None


def _check_status(intent: Json, verb: str, done: str, allowed: Collection[str] = _OPEN) -> None:
    if intent["status"] not in allowed:
        raise _unexpected(
            intent,
            f"You cannot {verb} this SetupIntent because it has a status of {intent['status']}. "
            "Only a SetupIntent with one of the following statuses may be "
            f"{done}: {', '.join(allowed)}.",
        )


def _unexpected(intent: Json, message: str) -> errors.ApiError:
    error = errors.invalid(message, code="setup_intent_unexpected_state")
    error.extra["setup_intent"] = intent
    return error
