"""Saving a card on the page of a Checkout Session in setup mode.

https://docs.stripe.com/payments/save-and-reuse
"""

from sandbox.stripe import checkout, customers, events, setup_attempts, setup_intents
from sandbox.stripe.call import Call
from sandbox.stripe.store import Json


def save(call: Call, session: Json, method: Json) -> Json:
    """Set up the card of an open session; returns the session.

    A refused card raises `ApiError` 402 and leaves the session open. A card that wants 3-D Secure
    leaves it open too, with a SetupIntent in `requires_action`.
    """
    intent = setup_intents.load(call, session["setup_intent"])
    if intent["customer"] is None and session["customer_creation"] == "always":
        email = method["billing_details"]["email"]
        intent["customer"] = customers.build(call, {"email": email})["id"]
    intent = setup_attempts.attempt(call, intent, method, authenticated=False)
    return _complete(call, session, intent)


def answer(call: Call, intent_id: str, *, passed: bool) -> Json:
    """Answer the challenge of a SetupIntent and complete its session, if it has one."""
    intent = setup_attempts.answer(call, intent_id, passed=passed)
    session_id = call.store.hidden(intent_id).get("checkout_session")
    if session_id is not None:
        _complete(call, checkout.load(call, session_id), intent)
    return intent


def _complete(call: Call, session: Json, intent: Json) -> Json:
    if intent["status"] != "succeeded":
        return session
    billing = call.load("payment_method", intent["payment_method"])["billing_details"]
    session |= {
        "customer": intent["customer"],
        "customer_details": checkout.customer_details(
            billing["email"], billing["name"], billing["address"]
        ),
        "status": "complete",
        "url": None,
    }
    call.store.save(session)
    events.emit(call, "checkout.session.completed", session)
    return session
