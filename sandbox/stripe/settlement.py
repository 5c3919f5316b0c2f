"""How payments end whose bank answers in some days, such as ACH debits.

https://docs.stripe.com/payments/ach-direct-debit
"""

from sandbox.stripe import attempts, checkout, declines, errors, events, payment_methods
from sandbox.stripe.call import Call
from sandbox.stripe.store import Json


def settle(call: Call, intent_id: str, *, succeeded: bool | None = None) -> Json:
    """End a PaymentIntent in `processing` and its Checkout Session; returns the PaymentIntent.

    Without `succeeded` the test account decides.
    """
    intent = call.load("payment_intent", intent_id, param="intent")
    if intent["status"] != "processing":
        raise errors.invalid(f"This PaymentIntent is not processing: it is {intent['status']}.")
    method = call.load("payment_method", intent["payment_method"], name="PaymentMethod")
    decline = payment_methods.card_of(call, method).decline
    if succeeded is not None:
        decline = None if succeeded else decline or declines.NO_ACCOUNT
    intent = attempts.conclude(call, intent, decline)
    session_id = call.store.hidden(intent_id).get("checkout_session")
    if session_id is not None:
        session = checkout.load(call, session_id)
        if decline is None:
            session["payment_status"] = "paid"
            call.store.save(session)
        ending = "succeeded" if decline is None else "failed"
        events.emit(call, f"checkout.session.async_payment_{ending}", session)
    attempts.finish(call, intent)
    return intent
