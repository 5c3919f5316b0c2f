"""Checkout Sessions in subscription mode: paying one starts a subscription.

https://docs.stripe.com/payments/checkout/how-checkout-works#subscription-lifecycle
"""

from typing import Any, Final

from sandbox.stripe import (
    customers,
    errors,
    events,
    invoice_collection,
    payment_methods,
    subscription_billing,
    subscriptions,
)
from sandbox.stripe.call import Call
from sandbox.stripe.params import Kind, Params
from sandbox.stripe.store import Json

DATA: Final[dict[str, Any]] = {
    "description": Kind.TEXT,
    "metadata": Kind.METADATA,
    "proration_behavior": Kind.TEXT,
    "trial_end": Kind.INTEGER,
    "trial_period_days": Kind.INTEGER,
}


def start(call: Call, session: Json, method: Json, email: str | None) -> Json:
    """Start the subscription of a session and charge its first invoice; returns the invoice.

    A declined card raises `ApiError` 402 and leaves no subscription. A card that wants 3-D Secure
    leaves an open invoice; the session and its subscription wait for the challenge.
    """
    _give_up(call, session)
    customer = session["customer"] or customers.build(call, {"email": email})["id"]
    session["customer"] = customer
    call.store.save(session)
    payment_methods.bind(call, method, customer)
    with call.store.savepoint():
        params, priced = _params(call, session, method)
        subscription, invoice = subscriptions.build(call, params, priced)
        refusal = subscription_billing.collect(call, invoice, off_session=False)
        if refusal is not None:
            raise refusal
    started = {"invoice": invoice["id"], "subscription": subscription["id"]}
    call.store.hide(session["id"], started=started)
    invoice = call.load("invoice", invoice["id"])
    if invoice["status"] == "open":
        intent_id = invoice_collection.intent_of(call, invoice)
        call.store.hide(intent_id, checkout_session=session["id"])
        call.store.hide(session["id"], intent=intent_id)
    return invoice


def bill_trial(items: list[Json], data: Params) -> None:
    """Let line items cost nothing now if the subscription begins with a trial."""
    if data.get("trial_period_days") or data.get("trial_end"):
        for item in items:
            item |= {"amount_subtotal": 0, "amount_total": 0}


def check_items(mode: str, items: list[Json]) -> None:
    """Refuse recurring prices in payment mode, and others in subscription mode."""
    recurring = [item["price"]["recurring"] is not None for item in items]
    if mode == "payment" and any(recurring):
        raise errors.invalid(
            "You specified `payment` mode but passed a recurring price. Either switch to "
            "`subscription` mode or use only one-time prices."
        )
    if mode == "subscription" and not any(recurring):
        raise errors.invalid(
            "You must provide at least one recurring price in `subscription` mode when using "
            "prices."
        )
    if mode == "subscription" and not all(recurring):
        raise errors.invalid("This simulator has no one-time prices in `subscription` mode.")


def _give_up(call: Call, session: Json) -> None:
    """End the subscription of an earlier try, whose challenge was failed."""
    started = call.store.hidden(session["id"]).get("started")
    if started is None:
        return
    invoice_collection.void(call, call.load("invoice", started["invoice"]))
    subscription = call.load("subscription", started["subscription"])
    previous = {"status": subscription["status"]}
    subscription |= {"ended_at": call.now, "status": "incomplete_expired"}
    call.store.save(subscription)
    events.emit(call, "customer.subscription.updated", subscription, previous)


def _params(call: Call, session: Json, method: Json) -> tuple[Params, list[Json]]:
    hidden = call.store.hidden(session["id"])
    items = [
        {"quantity": item["quantity"], "tax_rates": [rate["id"] for rate in rates]}
        for item, rates in zip(hidden["line_items"], hidden["tax_rates"], strict=True)
    ]
    data = hidden["subscription_data"]
    names = ("description", "metadata", "trial_end", "trial_period_days")
    params = {name: data[name] for name in names if name in data}
    params |= {
        "automatic_tax": {"enabled": session["automatic_tax"]["enabled"]},
        "customer": session["customer"],
        "default_payment_method": method["id"],
        "discounts": [{"discount": discount_id} for discount_id in hidden["discounts"]],
        "items": items,
    }
    return params, [item["price"] for item in hidden["line_items"]]
