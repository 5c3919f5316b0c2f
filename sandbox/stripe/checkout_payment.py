"""The cardholder's side: paying a Checkout Session and answering a 3-D Secure challenge.

https://docs.stripe.com/payments/checkout/how-checkout-works
"""

from sandbox.stripe import (
    attempts,
    cards,
    challenges,
    checkout,
    checkout_setup,
    customers,
    declines,
    errors,
    events,
    invoices,
    payment_intents,
    payment_methods,
)
from sandbox.stripe.call import Call
from sandbox.stripe.store import Json

SESSION_ID = "{CHECKOUT_SESSION_ID}"


def pay(call: Call, session_id: str, number: str, email: str | None = None) -> Json:
    """Pay an open session with a card number; returns the session.

    A declined card raises `ApiError` 402 and leaves the session open. A card that wants 3-D Secure
    leaves it open too, with a PaymentIntent in `requires_action`.
    """
    session = checkout.load(call, session_id)
    if session["status"] != "open":
        raise errors.invalid(f"This Checkout Session is {session['status']}; it cannot be paid.")
    card = cards.BY_NUMBER.get("".join(number.split()))
    if card is None:
        raise errors.card_error(declines.INCORRECT_NUMBER)
    details = {"email": email or _email(session), "name": None}
    method = payment_methods.build(call, card, {"billing_details": details})
    if session["mode"] == "setup":
        return checkout_setup.save(call, session, method)
    intent = _intent(call, session, details["email"])
    intent = attempts.attempt(call, intent, method, attempts.Circumstances())
    return _complete(call, session, intent, method)


def answer_challenge(call: Call, intent_id: str, *, passed: bool) -> Json:
    """Pass or fail the 3-D Secure challenge of a PaymentIntent; returns the PaymentIntent.

    Raises `ApiError` 402 when the issuer declines after a passed challenge and 400
    `payment_intent_authentication_failure` after a failed one; both are recorded on it.
    """
    intent = call.load("payment_intent", intent_id, param="intent")
    if intent["status"] != "requires_action":
        raise errors.invalid(
            f"This PaymentIntent waits for no authentication: it is {intent['status']}."
        )
    if not passed:
        raise attempts.fail_authentication(call, intent)
    method = call.load("payment_method", intent["payment_method"], name="PaymentMethod")
    circumstances = attempts.Circumstances(authenticated=True)
    intent = attempts.attempt(call, intent, method, circumstances)
    session_id = call.store.hidden(intent_id).get("checkout_session")
    if session_id is None:
        attempts.finish(call, intent)
    else:
        _complete(call, checkout.load(call, session_id), intent, method)
    return intent


def way_back(call: Call, intent: Json) -> str | None:
    """Tell where the cardholder goes after the challenge: to the session's page or the merchant."""
    session_id = call.store.hidden(intent["id"]).get("checkout_session")
    if session_id is not None:
        session = checkout.load(call, session_id)
        if session["status"] == "complete":
            return success_address(session)
        return f"/c/pay/{session_id}?declined=1"
    return challenges.merchant_address(call, intent)


def success_address(session: Json) -> str:
    """Return the merchant's success page with the session's id filled in."""
    address: str = session["success_url"]
    return address.replace(SESSION_ID, session["id"])


def _email(session: Json) -> str | None:
    email: str | None = (session["customer_details"] or {}).get("email")
    return email


def _intent(call: Call, session: Json, email: str | None) -> Json:
    """Reuse the PaymentIntent of a declined try, or make it now that somebody pays."""
    if session["payment_intent"] is not None:
        return call.load("payment_intent", session["payment_intent"])
    data = call.store.hidden(session["id"])["payment_intent_data"]
    customer = session["customer"]
    needed = session["customer_creation"] == "always" or session["invoice_creation"]["enabled"]
    if customer is None and needed:
        customer = customers.build(call, {"email": email})["id"]
    copied = (
        "capture_method",
        "description",
        "metadata",
        "receipt_email",
        "setup_future_usage",
        "statement_descriptor",
        "statement_descriptor_suffix",
        "transfer_group",
    )
    values = {name: data[name] for name in copied if name in data} | {"customer": customer}
    intent = payment_intents.build(call, session["amount_total"], session["currency"], values)
    call.store.hide(intent["id"], checkout_session=session["id"])
    session["payment_intent"] = intent["id"]
    call.store.save(session)
    return intent


def _complete(call: Call, session: Json, intent: Json, method: Json) -> Json:
    if intent["status"] not in {"succeeded", "requires_capture", "processing"}:
        return session
    billing = method["billing_details"]
    session |= {
        "customer": intent["customer"],
        "customer_details": checkout.customer_details(
            billing["email"], billing["name"], billing["address"]
        ),
        "payment_status": "paid" if intent["status"] == "succeeded" else "unpaid",
        "status": "complete",
        "url": None,
    }
    if session["invoice_creation"]["enabled"] and session["payment_status"] == "paid":
        session["invoice"] = invoices.paid(call, session)["id"]
    call.store.save(session)
    events.emit(call, "checkout.session.completed", session)
    attempts.finish(call, intent)
    return session
