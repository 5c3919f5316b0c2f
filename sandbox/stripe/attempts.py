"""One attempt of a PaymentIntent to charge a payment method, and what follows from the decision.

https://docs.stripe.com/payments/paymentintents/lifecycle
"""

from dataclasses import dataclass

from sandbox.stripe import (
    after_charge,
    challenges,
    charges,
    errors,
    events,
    invoice_payments,
    payment_methods,
)
from sandbox.stripe.call import Call
from sandbox.stripe.declines import AUTHENTICATION_NOT_HANDLED, Decline
from sandbox.stripe.issuer import Approved, Challenged, Pending, decide
from sandbox.stripe.store import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """Who is there while the card is charged."""

    off_session: bool = False
    authenticated: bool = False
    refuse_challenge: bool = False


def attempt(call: Call, intent: Json, method: Json, circumstances: Circumstances) -> Json:
    """Charge, ask for 3-D Secure, or refuse with 402; the intent is saved in every case.

    Emits the events of the payment but leaves `finish` to the caller, who may have an event of
    its own (a completed Checkout Session) that Stripe sends before the charge settles.
    """
    decision = decide(
        payment_methods.card_of(call, method),
        off_session=circumstances.off_session,
        set_up=call.store.hidden(method["id"])["set_up"],
        authenticated=circumstances.authenticated,
        refuse_challenge=circumstances.refuse_challenge,
    )
    intent |= {"payment_method": method["id"], "last_payment_error": None, "next_action": None}
    if method["type"] not in intent["payment_method_types"]:
        intent["payment_method_types"].append(method["type"])
    match decision:
        case Approved():
            return _succeed(call, intent, method)
        case Challenged():
            return _challenge(call, intent)
        case Pending():
            return _wait(call, intent, method)
        case Decline():
            raise _refuse(call, intent, method, decision)


def finish(call: Call, intent: Json) -> None:
    """Pay what a captured payment is for, settle its charge, and apply the after-charge effects."""
    if intent["status"] != "succeeded":
        return
    invoice_payments.follow(call, intent)
    charge = charges.settle(call, intent["latest_charge"])
    method = call.load("payment_method", intent["payment_method"])
    after_charge.follow(call, charge, payment_methods.card_of(call, method))


def fail_authentication(call: Call, intent: Json) -> errors.ApiError:
    """Record that the cardholder did not pass 3-D Secure, and return the error that says so."""
    decline = Decline(
        "payment_intent_authentication_failure",
        "The provided PaymentMethod has failed authentication. You can provide payment_method_data "
        "or a new PaymentMethod to attempt to fulfill this PaymentIntent again.",
    )
    method = call.load("payment_method", intent["payment_method"])
    error = errors.card_error(decline)
    error.status, error.type = 400, "invalid_request_error"
    return _record_failure(call, intent, method, error, charge=None)


def conclude(call: Call, intent: Json, decline: Decline | None) -> Json:
    """End a payment in `processing`: the bank paid, or refused with `decline`."""
    charge = call.load("charge", intent["latest_charge"])
    if decline is None:
        return _paid(call, intent, charge, captured=True)
    method = call.load("payment_method", intent["payment_method"])
    charges.fail(call, charge, decline)
    _record_failure(call, intent, method, errors.card_error(decline), charge)
    return intent


def _succeed(call: Call, intent: Json, method: Json) -> Json:
    _remember_use(call, intent, method)
    charge = charges.build(call, intent, method)
    return _paid(call, intent, charge, captured=intent["capture_method"] != "manual")


def _remember_use(call: Call, intent: Json, method: Json) -> None:
    """Save the card to its customer if that was asked for; a loose one is used up."""
    usage, customer = intent["setup_future_usage"], intent["customer"]
    if usage is not None and customer is not None:
        method = payment_methods.bind(call, method, customer)
    call.store.hide(
        method["id"],
        set_up=call.store.hidden(method["id"])["set_up"] or usage == "off_session",
        spent=method["customer"] is None,
    )


def _paid(call: Call, intent: Json, charge: Json, *, captured: bool) -> Json:
    charges.succeed(call, charge, captured=captured)
    intent["latest_charge"] = charge["id"]
    if captured:
        intent |= {"status": "succeeded", "amount_received": intent["amount"]}
        event_type = "payment_intent.succeeded"
    else:
        intent |= {"status": "requires_capture", "amount_capturable": intent["amount"]}
        event_type = "payment_intent.amount_capturable_updated"
    call.store.save(intent)
    events.emit(call, event_type, intent)
    return intent


def _wait(call: Call, intent: Json, method: Json) -> Json:
    _remember_use(call, intent, method)
    charge = charges.begin(call, intent, method)
    intent |= {"status": "processing", "latest_charge": charge["id"]}
    call.store.save(intent)
    events.emit(call, "payment_intent.processing", intent)
    return intent


def _challenge(call: Call, intent: Json) -> Json:
    intent |= {"status": "requires_action", "next_action": challenges.next_action(call, intent)}
    call.store.save(intent)
    events.emit(call, "payment_intent.requires_action", intent)
    return intent


def _refuse(call: Call, intent: Json, method: Json, decline: Decline) -> errors.ApiError:
    error = errors.card_error(decline)
    charge = None
    if decline is not AUTHENTICATION_NOT_HANDLED:
        charge = charges.fail(call, charges.build(call, intent, method), decline)
        intent["latest_charge"] = charge["id"]
    return _record_failure(call, intent, method, error, charge)


def _record_failure(
    call: Call, intent: Json, method: Json, error: errors.ApiError, charge: Json | None
) -> errors.ApiError:
    error.extra |= {"charge": charge["id"] if charge else None, "payment_method": method}
    intent |= {
        "status": "requires_payment_method",
        "payment_method": None,
        "next_action": None,
        "last_payment_error": error.body()["error"],
    }
    call.store.save(intent)
    events.emit(call, "payment_intent.payment_failed", intent)
    invoice_payments.fail(call, intent)
    error.extra["payment_intent"] = intent
    return error
