"""The cardholder's side: paying a Checkout Session and answering a 3-D Secure challenge.

https://docs.stripe.com/payments/checkout/how-checkout-works
"""

from dataclasses import dataclass

from sandbox.stripe import (
    attempts,
    cards,
    challenges,
    checkout,
    checkout_invoice,
    checkout_setup,
    checkout_subscription,
    checkout_totals,
    customers,
    declines,
    discounts,
    errors,
    events,
    payment_intents,
    payment_methods,
    tax_rates,
)
from sandbox.stripe.call import Call
from sandbox.stripe.store import Json

SESSION_ID = "{CHECKOUT_SESSION_ID}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What a buyer enters on the page; `tax_percent` stands for an address and its tax."""

    card: str
    email: str | None = None
    promotion_code: str | None = None
    shipping_rate: str | None = None
    tax_percent: str = tax_rates.AUTOMATIC_PERCENT


def pay(call: Call, session_id: str, form: Form) -> Json:
    """Pay an open session with a card number; returns the session.

    A declined card raises `ApiError` 402 and leaves the session open. A card that wants 3-D Secure
    leaves it open too, with a PaymentIntent in `requires_action`. A session that costs nothing is
    complete without a PaymentIntent.
    """
    session = checkout.load(call, session_id)
    if session["status"] != "open":
        raise errors.invalid(f"This Checkout Session is {session['status']}; it cannot be paid.")
    if call.store.hidden(session_id)["line_items"]:
        _price(call, session, form)
    card = cards.BY_NUMBER.get("".join(form.card.split()))
    if card is None:
        raise errors.card_error(declines.INCORRECT_NUMBER)
    details = {"email": form.email or _email(session), "name": None}
    method = payment_methods.build(call, card, {"billing_details": details})
    if session["mode"] == "setup":
        return checkout_setup.save(call, session, method)
    if session["mode"] == "subscription":
        return _subscribe(call, session, method, details["email"])
    if session["amount_total"] == 0:
        return _complete_free(call, session, details["email"])
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


def _subscribe(call: Call, session: Json, method: Json, email: str | None) -> Json:
    invoice = checkout_subscription.start(call, session, method, email)
    if invoice["status"] != "paid":
        return session
    session |= call.store.hidden(session["id"])["started"] | {
        "customer_details": checkout.customer_details(email),
        "payment_status": "paid" if invoice["amount_due"] else "no_payment_required",
        "status": "complete",
        "url": None,
    }
    call.store.save(session)
    events.emit(call, "checkout.session.completed", session)
    return session


def intent_of(call: Call, session: Json) -> str:
    """Return the id of a session's PaymentIntent or SetupIntent; empty before it has one.

    In subscription mode it is the first invoice's, which the session does not show.
    """
    shown = session["payment_intent"] or session["setup_intent"]
    intent_id: str = shown or call.store.hidden(session["id"]).get("intent", "")
    return intent_id


def _price(call: Call, session: Json, form: Form) -> None:
    """Compute the total with what the buyer entered: a promotion code, shipping, an address."""
    if form.promotion_code:
        if not session["allow_promotion_codes"]:
            raise errors.invalid("This Checkout Session takes no promotion codes.")
        values = {"checkout_session": session["id"], "customer": session["customer"]}
        entered = discounts.enter(call, form.promotion_code, values)
        checkout.add_discounts(call, session, [entered])
    if form.shipping_rate:
        offered = [option["shipping_rate"] for option in session["shipping_options"]]
        if form.shipping_rate not in offered:
            raise errors.invalid("This Checkout Session does not offer that shipping rate.")
        session["shipping_cost"] = {"shipping_rate": form.shipping_rate}
    checkout_totals.apply(call, session, tax_percent=form.tax_percent)
    checkout_totals.check_minimum(session)
    call.store.save(session)


def _complete_free(call: Call, session: Json, email: str | None) -> Json:
    """Complete a session that costs nothing: https://docs.stripe.com/payments/checkout/no-cost-orders."""
    customer = session["customer"]
    if customer is None and session["customer_creation"] == "always":
        customer = customers.build(call, {"email": email})["id"]
    session |= {
        "customer": customer,
        "customer_details": checkout.customer_details(email),
        "payment_status": "no_payment_required",
        "status": "complete",
        "url": None,
    }
    _redeem(call, session)
    call.store.save(session)
    events.emit(call, "checkout.session.completed", session)
    return session


def _redeem(call: Call, session: Json) -> None:
    for discount_id in call.store.hidden(session["id"])["discounts"]:
        discounts.redeem(call, call.load("discount", discount_id))


def _intent(call: Call, session: Json, email: str | None) -> Json:
    """Reuse the PaymentIntent of a declined try, or make it now that somebody pays."""
    if session["payment_intent"] is not None:
        intent = call.load("payment_intent", session["payment_intent"])
        return call.store.save(intent | {"amount": session["amount_total"]})
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
    if session["mode"] == "subscription":
        session |= call.store.hidden(session["id"])["started"]
    else:
        _redeem(call, session)
    if session["invoice_creation"]["enabled"] and session["payment_status"] == "paid":
        session["invoice"] = checkout_invoice.build(call, session, intent)["id"]
    call.store.save(session)
    events.emit(call, "checkout.session.completed", session)
    attempts.finish(call, intent)
    return session
