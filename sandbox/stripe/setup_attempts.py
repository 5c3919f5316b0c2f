"""One attempt of a SetupIntent to make a card chargeable while its holder is away.

https://docs.stripe.com/payments/setupintents/lifecycle
"""

from sandbox.stripe import challenges, errors, events, payment_methods
from sandbox.stripe.call import Call
from sandbox.stripe.cards import Challenge
from sandbox.stripe.declines import Decline
from sandbox.stripe.store import Json


def attempt(call: Call, intent: Json, method: Json, *, authenticated: bool) -> Json:
    """Save the card, ask for 3-D Secure, or refuse with 402; the intent is saved in every case."""
    card = payment_methods.card_of(call, method)
    intent |= {"payment_method": method["id"], "last_setup_error": None, "next_action": None}
    if card.challenge is not Challenge.NEVER and not authenticated:
        return _challenge(call, intent)
    if card.decline is not None and not card.attachable:
        raise _fail(call, intent, method, errors.card_error(card.decline))
    return _succeed(call, intent, method)


def answer(call: Call, intent_id: str, *, passed: bool) -> Json:
    """Pass or fail the 3-D Secure challenge; returns the SetupIntent.

    Raises `ApiError` 400 `setup_intent_authentication_failure` after a failed one and 402 when the
    issuer refuses the card after a passed one; both are recorded on it.
    """
    intent = call.load("setup_intent", intent_id, name="setupintent", param="intent")
    if intent["status"] != "requires_action":
        raise errors.invalid(
            f"This SetupIntent waits for no authentication: it is {intent['status']}."
        )
    method = call.load("payment_method", intent["payment_method"], name="PaymentMethod")
    if passed:
        return attempt(call, intent, method, authenticated=True)
    decline = Decline(
        "setup_intent_authentication_failure",
        "The latest attempt to set up the payment method has failed because authentication failed.",
    )
    error = errors.card_error(decline)
    error.status, error.type = 400, "invalid_request_error"
    raise _fail(call, intent, method, error)


def _succeed(call: Call, intent: Json, method: Json) -> Json:
    if intent["customer"] is not None:
        method = payment_methods.bind(call, method, intent["customer"])
    already = call.store.hidden(method["id"])["set_up"]
    call.store.hide(method["id"], set_up=already or intent["usage"] == "off_session")
    intent["status"] = "succeeded"
    call.store.save(intent)
    events.emit(call, "setup_intent.succeeded", intent)
    return intent


def _challenge(call: Call, intent: Json) -> Json:
    intent |= {"status": "requires_action", "next_action": challenges.next_action(call, intent)}
    call.store.save(intent)
    events.emit(call, "setup_intent.requires_action", intent)
    return intent


def _fail(call: Call, intent: Json, method: Json, error: errors.ApiError) -> errors.ApiError:
    error.keeps_effects = True
    error.extra["payment_method"] = method
    intent |= {
        "status": "requires_payment_method",
        "payment_method": None,
        "next_action": None,
        "last_setup_error": error.body()["error"],
    }
    call.store.save(intent)
    events.emit(call, "setup_intent.setup_failed", intent)
    error.extra["setup_intent"] = intent
    return error
